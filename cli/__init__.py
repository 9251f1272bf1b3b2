"""The command line of hsstar."""
