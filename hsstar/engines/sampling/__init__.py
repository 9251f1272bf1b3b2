"""Samplers: they draw completions from a policy."""
