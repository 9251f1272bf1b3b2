"""Reward models: they score the steps of a response."""
