"""Checks of an installation: each finds out one thing, fails alone, and never for ever."""
