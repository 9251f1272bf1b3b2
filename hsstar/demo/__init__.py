"""A small arithmetic problem family with a tiny policy and a tiny process reward model."""

from pathlib import Path

_FOLDER = Path(__file__).parent
RECIPE = _FOLDER / "demo.toml"
"""The recipe of `hsstar demo`."""
BUILTINS = {"demo": RECIPE, "demo-policy": _FOLDER / "policy", "demo-prm": _FOLDER / "prm"}
"""The package's `builtin:` names."""
