"""What runs inside of the sandbox: the standard library and this folder are all that it sees."""
