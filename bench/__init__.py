"""Benchmarks of speed. Run one with `python -m bench.NAME`, and with `--help` to see what it measures.

The names are `allocator`, `method`, `queue`, `reward`, `sampling` and `verifier`.
"""
