"""Benchmarks of speed: `python -m bench.NAME` (allocator, method, queue, reward, sampling, verifier)."""
