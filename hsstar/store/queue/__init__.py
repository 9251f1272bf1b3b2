"""Jobs, leases, wake-ups and workers."""
