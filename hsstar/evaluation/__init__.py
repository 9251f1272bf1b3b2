"""Policies and given responses measured on benchmarks, through the queue."""
