"""Allocation of an iteration's budget to its problems."""
