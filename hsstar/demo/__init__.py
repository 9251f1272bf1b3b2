"""A small arithmetic problem family with a tiny policy and a tiny process reward model."""
