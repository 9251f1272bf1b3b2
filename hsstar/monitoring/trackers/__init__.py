"""Experiment trackers that a run's figures can be sent to, one file each."""
