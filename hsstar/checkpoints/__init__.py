"""Finds, checks, measures and describes checkpoints, without PyTorch."""
