"""The project in examples/ does what its page says, from nothing to a trained policy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import temporary_home

PROJECT = Path(__file__).parents[2] / "examples" / "last-digit"


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_project_checks_with_its_own_function_and_trains(tmp_path: Path) -> None:
    project = shutil.copytree(PROJECT, tmp_path / "last-digit")
    [block] = re.findall(r"```\n(python make_problems.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    with temporary_home() as home:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | home.environment | {"PATH": path}
        for command in block.splitlines():
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=project,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
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
