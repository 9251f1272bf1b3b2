"""Checkpoints: found, checked, measured and described, without PyTorch."""
