"""A process reward model that workers and `hsstar train prm` make of a run's own responses."""

import json
import re
import signal
from pathlib import Path

import pytest

from hsstar.demo import RECIPE
from tests.acceptance.conftest import Home, temporary_home

pytestmark = pytest.mark.heavy

ENOUGH = 0.6
"""AUC of the demo's own reward model: about 0.9; of chance: 0.5."""


def write_recipe(home: Home, name: str, reward: str, problems: int) -> str:
    """The demo's recipe, without training and evaluation and with another reward model."""
    text = RECIPE.read_text().partition("[evaluation]")[0]
    for old, new in (
        ('name = "demo"', f'name = "{name}"'),
        ("per_iteration = 250", f"per_iteration = {problems}"),
        ('model = "builtin:demo-prm"', f"model = {json.dumps(reward)}"),
        ("[training]", '[training]\nobjective = "none"'),
        ("n = 8", "n = 4"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    path = home.folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_a_reward_model_of_ones_own_tells_right_from_wrong_and_scores_the_next_run() -> None:
    with temporary_home() as home:
        home.environment["HSSTAR_JOB_SAMPLES"] = "192"
        home.ok("up")
        home.import_demo_problems(50, held_out=1)
        home.ok("runs", "create", "--recipe", write_recipe(home, "source", "builtin:demo-prm", 32))
        home.ok("iterate", "source", "--watch")
        output = home.folder / "prm"
        train = (
            "train", "prm", "--run", "source", "--output", str(output), "--responses", "3",
            "--continuations", "3", "--held-out", "0.35", "--set", "learning_rate=1e-3",
            "--set", "batch_size=8", "--set", "epochs=6",
        )  # fmt: skip
        drawn = "select samples.id from samples join rounds on rounds.id = round_id where kind = 'steps'"
        interrupted = home.start(*train)
        early = home.wait_for(drawn)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(30) == 130
        home.wait_for("select from step_rounds where finished_at is not null")
        said = home.ok(*train)
        kept = {row["id"] for row in home.query(drawn)}
        assert {row["id"] for row in early} <= kept
        assert len(kept) == home.query("select sum(3) as slots from step_prefixes")[0]["slots"]
        found = re.search(r"AUC of the minimum reward for the verdict *([\d.]+)", said)
        assert found and float(found[1]) > ENOUGH, said
        assert (output / "README.md").read_text().count("| AUC of the minimum reward") == 1
        assert not [path for path in Path(output.parent).iterdir() if path.name.startswith(".prm")]
        home.ok("runs", "create", "--recipe", write_recipe(home, "scored", str(output), 16))
        home.ok("iterate", "scored", "--watch")
        (row,) = home.query(
            "select reward_quality from iterations join rounds on rounds.id = round_id "
            "join runs on runs.id = run_id where runs.name = 'scored'"
        )
        assert row["reward_quality"] > ENOUGH
