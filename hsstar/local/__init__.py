"""The embedded stack of one machine: Postgres, a broker and worker processes."""
