"""Reward models: what scores the steps of a response."""
