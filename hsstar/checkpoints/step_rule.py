"""The rule by which the steps were split that a reward model was trained on, in its configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

from hsstar.checkpoints.files import read_json
from hsstar.domain.errors import CheckpointError

_KEY = "hsstar_steps"


def write_step_rule(checkpoint: Path, trained: Mapping[str, str]) -> None:
    """Write the keys of `[steps]` into the configuration of a checkpoint."""
    config = read_json(checkpoint / "config.json") | {_KEY: dict(trained)}
    text = json.dumps(config, indent=2, sort_keys=True)
    (checkpoint / "config.json").write_text(text + "\n", encoding="utf-8")


def check_step_rule(folder: Path, wanted: Mapping[str, str]) -> None:
    """Raise CheckpointError if a reward model was trained on steps of another rule; most do not say."""
    trained = read_json(folder / "config.json").get(_KEY)
    if trained is not None and trained != dict(wanted):
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in trained.items())
        raise CheckpointError(f"{folder}: it was trained on other steps; set steps = {{ {table} }}")
