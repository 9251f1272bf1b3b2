"""The main job through the real CLI: problems in, a trained policy out, twice over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.invariants import check_finished_run


def test_the_rows_keep_every_promise(finished: Home) -> None:
    recipe = json.loads(finished.ok("runs", "show", "loop"))
    check_finished_run(finished, "loop", recipe)


def test_each_iteration_trains_the_next_policy_on_fresh_problems(finished: Home) -> None:
    rows = finished.query("select * from iteration_statistics where run = 'loop' order by iteration")
    assert [row["model"] for row in rows] == ["builtin:demo-policy", "loop-M1"]
    assert [row["output_model"] for row in rows] == ["loop-M1", "loop-M2"]
    assert all(row["pairs"] > 0 and row["seconds_training"] > 0 for row in rows)
    assert rows[0]["heldout_accuracy_after"] == rows[1]["heldout_accuracy_before"]
    assert all(0 < row["heldout_accuracy_after"] <= 1 for row in rows)
    taken = finished.query("select problem_id from problem_statistics where run = 'loop'")
    assert len(taken) == len({row["problem_id"] for row in taken}) == 2 * 24


def test_the_stack_and_its_workers_are_shown(finished: Home) -> None:
    workers = json.loads(finished.ok("workers", "--json"))
    names = {worker["worker"].partition("@")[0] for worker in workers}
    assert names >= {"sample-1", "score-1", "verify-1", "train-1"}
    assert "sample-1" in finished.ok("status")
    assert "already up" in finished.refused("up")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_at_export(finished: Home) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        done = subprocess.run(
            [sys.executable, "-m", "hsstar.cli", "export", "samples", "loop"],
            env=os.environ | finished.environment, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.heavy
def test_the_same_recipe_draws_the_same_samples(finished: Home) -> None:
    finished.iterate("again", finished.write_recipe("again"))
    finished.wait_until_done("again")
    first, second = (
        {
            (sample["problem"], sample["slot"]): (sample["resp"], sample["seed"])
            for sample in map(json.loads, finished.ok("export", "samples", run).splitlines())
            if sample["iteration"] == 0
        }
        for run in ("loop", "again")
    )
    assert len(first) == 24 * 8
    assert first == second
