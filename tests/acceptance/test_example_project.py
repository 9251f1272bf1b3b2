"""The projects in examples/ do what their pages say, from nothing to a trained policy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home, temporary_home

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.heavy


def follow_page(home: Home, project: str, folder: Path) -> None:
    """Runs the commands of a project's page in a copy of its folder."""
    copy = shutil.copytree(EXAMPLES / project, folder / project)
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
    pytest.importorskip("reasoning_gym")
    with temporary_home() as home:
        follow_page(home, "gym-tasks", tmp_path)
        figures = home.query(
            "SELECT run, state, correct, drawn, pairs, rows_trained FROM iteration_statistics ORDER BY run"
        )
        assert [each["run"] for each in figures] == ["chain_sum", "letter_counting", "spell_backward"]
        for each in figures:
            assert each["state"] == "done"
            assert 0.05 < each["correct"] / each["drawn"] < 0.95, each
            assert each["rows_trained"] == 2 * each["pairs"] > 40, each
        verifiers = home.query("SELECT DISTINCT verifier FROM samples WHERE verdict IS NOT NULL")
        assert [str(row["verifier"]).partition(" ")[0] for row in verifiers] == ["gym"]
