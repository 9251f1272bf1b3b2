"""What measures speed. Run as `python -m benchmarks.NAME`: `method`, `allocator`, `verifier`."""
