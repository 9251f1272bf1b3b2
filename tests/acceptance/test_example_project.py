"""The projects in examples/ do what their pages say, from nothing to a trained policy."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Home, temporary_home

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.heavy


def follow_page(home: Home, project: str, folder: Path, **smaller: int) -> None:
    """Runs the commands of a project's page in a copy of its folder; `smaller` gives names another number."""
    copy = shutil.copytree(EXAMPLES / project, folder / project)
    for name, number in smaller.items():
        replace_number(copy, name, number)
    [commands] = re.findall(r"```\n(python make_.*?)```", (copy / "README.md").read_text(), re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-exc", commands],
        cwd=copy,
        env=os.environ | home.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def replace_number(folder: Path, name: str, number: int) -> None:
    """Gives `name = NUMBER` another number, wherever the files of a folder have it."""
    assignment = re.compile(rf"^(.*\b{name} = )[\d_]+$", re.MULTILINE)
    replaced = 0
    for file in (*folder.glob("*.toml"), *folder.glob("*.py")):
        text, count = assignment.subn(rf"\g<1>{number}", file.read_text())
        file.write_text(text)
        replaced += count
    assert replaced, name


@pytest.mark.timeout(600)
def test_a_project_checks_with_its_own_function_and_trains(tmp_path: Path) -> None:
    with temporary_home() as home:
        follow_page(home, "last-digit", tmp_path)
        [figures] = home.query(
            "SELECT correct, drawn, pairs, rows_trained FROM iteration_statistics WHERE run = 'last-digit'"
        )
        assert figures["drawn"] == 960
        assert 0.1 < figures["correct"] / figures["drawn"] < 0.9
        assert figures["rows_trained"] == 2 * figures["pairs"] > 100  # two epochs
        judged = home.query(
            "SELECT DISTINCT verifier FROM samples WHERE verdict IS NOT NULL",
        )
        assert len(judged) == 1
        assert judged[0]["verifier"].startswith("checks.py:last_digit ")


@pytest.mark.timeout(1000)
def test_three_tasks_of_reasoning_gym_are_trained_for_an_iteration(tmp_path: Path) -> None:
    gym = pytest.importorskip("reasoning_gym")
    with temporary_home() as home:
        follow_page(home, "gym-tasks", tmp_path, SOLUTIONS=1_000, per_iteration=60, problems=20)
        figures = home.query(
            "SELECT run, state, correct, drawn, pairs, rows_trained, optimiser_steps, update_kept,"
            " heldout_accuracy_before, heldout_accuracy_after FROM iteration_statistics ORDER BY run"
        )
        judged = home.query(
            "SELECT source_id, answer, verdict FROM responses JOIN problems ON problems.id = problem_id"
            " WHERE verdict IS NOT NULL AND answer IS NOT NULL"
        )
        verifiers = home.query("SELECT DISTINCT verifier FROM samples WHERE verdict IS NOT NULL")
    assert [each["run"] for each in figures] == ["chain_sum", "gcd", "letter_counting"]
    for each in figures:
        assert each["state"] == "done"
        assert each["drawn"] == 60 * 8
        assert 0 < each["correct"] < each["drawn"], each
        assert each["rows_trained"] == 2 * each["pairs"] > 0, each  # two epochs
        assert each["optimiser_steps"] > 0
        assert each["heldout_accuracy_before"] is not None
        assert each["heldout_accuracy_after"] is not None
    assert [str(row["verifier"]).partition(" ")[0] for row in verifiers] == ["gym"]
    assert len(judged) > 300
    for row in judged:
        assert (row["verdict"] == "correct") == (score_by_hand(gym, row["source_id"], row["answer"]) == 1), (
            row
        )


def score_by_hand(gym: Any, source_id: str, answer: str) -> float:
    """Asks the task that made a problem `TASK-SEED-INDEX OPTIONS` what an answer scores."""
    name, _, options = source_id.partition(" ")
    task, seed, index = name.split("-")
    dataset = gym.create_dataset(task, seed=int(seed), size=int(index) + 1, **json.loads(options or "{}"))
    return float(dataset.score_answer(answer, dataset[int(index)]))
