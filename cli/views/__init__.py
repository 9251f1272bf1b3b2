"""How the command line shows what it is given."""
