"""What a run is: one TOML document that says everything which decides its result."""
