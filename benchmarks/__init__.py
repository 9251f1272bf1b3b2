"""What measures speed. Run as `python -m benchmarks.method`, `python -m benchmarks.allocator`."""
