"""What a user can ask for, one module per wish; the CLI and the tests call these."""
