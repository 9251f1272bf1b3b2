"""Samplers: what draws completions from a policy."""
