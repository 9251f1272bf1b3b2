"""One module per job kind: load, compute, write. The only place where store and engines meet."""
