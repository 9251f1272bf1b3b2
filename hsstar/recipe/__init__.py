"""Recipes: a TOML document decides the result of a run."""
