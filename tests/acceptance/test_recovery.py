"""Processes die; nothing is lost and nothing doubled, and the run ends by itself."""

import json
import os
import signal

from tests.acceptance.conftest import Home
from tests.acceptance.invariants import check_finished_run

_WORKERS = "select name, process, state from workers where state <> 'stopped'"


def _kill_when_busy(home: Home, role: str) -> None:
    busy = home.wait_for(
        f"{_WORKERS} and role = '{role}'", lambda rows: any(row["state"] == "busy" for row in rows)
    )
    for worker in busy:
        if worker["state"] == "busy":
            os.kill(worker["process"], signal.SIGKILL)


def test_killed_workers_cost_nothing(stack: Home) -> None:
    recipe = stack.write_recipe("killed")
    stack.ok("runs", "create", "--recipe", str(recipe))
    stack.ok("iterate", "killed")
    _kill_when_busy(stack, "sample")
    _kill_when_busy(stack, "score")
    stack.wait_until_done("killed")
    check_finished_run(stack, "killed", json.loads(stack.ok("runs", "show", "killed")))
    assert stack.query("select max(attempts) as attempts from jobs")[0]["attempts"] > 1


def test_a_killed_training_starts_again(stack: Home) -> None:
    stack.ok("runs", "create", "--recipe", str(stack.write_recipe("retrained")))
    stack.ok("iterate", "retrained")
    _kill_when_busy(stack, "train")
    stack.wait_until_done("retrained")
    check_finished_run(stack, "retrained", json.loads(stack.ok("runs", "show", "retrained")))
    trained = stack.query("select output_model from iteration_statistics where run = 'retrained'")
    assert trained == [{"output_model": "retrained-M1"}]


def test_down_in_the_middle_and_up_again(stack: Home) -> None:
    stack.ok("runs", "create", "--recipe", str(stack.write_recipe("interrupted")))
    stack.ok("iterate", "interrupted")
    stack.wait_for(
        "select drawn from iteration_statistics where run = 'interrupted'",
        lambda rows: bool(rows) and 0 < rows[0]["drawn"] < 192,
    )
    stack.ok("down")
    assert "not up" in stack.refused("status", "interrupted")
    stack.ok("up")
    stack.wait_until_done("interrupted")
    check_finished_run(stack, "interrupted", json.loads(stack.ok("runs", "show", "interrupted")))
