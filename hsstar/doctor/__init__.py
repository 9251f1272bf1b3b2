"""Probes of an installation: each finds out one thing, fails alone, and ends in time."""
