"""A small arithmetic problem family with a tiny policy and a tiny process reward model."""

from pathlib import Path

RECIPE = Path(__file__).with_name("demo.toml")
"""The recipe of `hsstar demo`."""
