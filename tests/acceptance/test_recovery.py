"""Processes die; nothing is lost and nothing doubled, and the run ends by itself."""

import json
import os
import signal

import pytest

from tests.acceptance.conftest import SECONDS, Home
from tests.acceptance.invariants import check_finished_run


def _kill_in_the_middle_of_a_job(home: Home, kind: str) -> None:
    """Waits until a job of this kind runs and kills its worker with -9."""
    (running,) = home.wait_for(
        "select process from jobs join workers on workers.name = jobs.worker "
        f"where jobs.state = 'running' and jobs.kind = '{kind}' limit 1"
    )
    os.kill(running["process"], signal.SIGKILL)


@pytest.mark.heavy
def test_killed_workers_cost_nothing(stack: Home) -> None:
    stack.iterate("killed", stack.write_recipe("killed", 12, 8))
    _kill_in_the_middle_of_a_job(stack, "sample")
    _kill_in_the_middle_of_a_job(stack, "score")
    stack.wait_until_done("killed")
    check_finished_run(stack, "killed", json.loads(stack.ok("runs", "show", "killed")))
    assert stack.query("select max(attempts) as attempts from jobs")[0]["attempts"] > 1


def test_ctrl_c_leaves_the_run_going(stack: Home) -> None:
    stack.ok("runs", "create", "--recipe", str(stack.write_recipe("unwatched", 8, 4)))
    watching = stack.start("iterate", "unwatched", "--watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("unwatched: iteration 0 enqueued")
    assert watching.stdout.readline().startswith("iteration 0")
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=SECONDS)
    assert watching.returncode == 130
    assert "unwatched continues" in errors
    assert "Traceback" not in errors
    stack.wait_until_done("unwatched")


@pytest.mark.heavy
def test_down_in_the_middle_and_up_again(stack: Home) -> None:
    stack.iterate("interrupted", stack.write_recipe("interrupted", 12, 8))
    stack.wait_for(
        "select drawn from iteration_statistics where run = 'interrupted'",
        lambda rows: bool(rows) and 0 < rows[0]["drawn"] < 96,
    )
    stack.ok("down")
    assert "not up" in stack.refused("status", "interrupted")
    stack.ok("up")
    stack.wait_until_done("interrupted")
    check_finished_run(stack, "interrupted", json.loads(stack.ok("runs", "show", "interrupted")))
