"""Trainers: what makes the next policy."""
