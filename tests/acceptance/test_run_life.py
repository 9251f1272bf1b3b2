"""The life of a run through the real CLI, on the embedded stack: stopped, continued, forked, deleted."""

import json
import signal

import pytest

from tests.acceptance.conftest import Home, processes_below, temporary_home
from tests.acceptance.invariants import check_finished_run
from tests.waiting import wait_for

LIVE = "select count(*) from jobs where state in ('queued', 'running')"
SMALL = ("problems.per_iteration=24", "evaluation.problems=10")


@pytest.mark.heavy
def test_a_run_is_stopped_continued_forked_and_deleted() -> None:
    with temporary_home() as home:
        home.ok("up")
        home.import_demo_problems(48, 10)
        sizes = [word for change in SMALL for word in ("--set", change)]
        home.ok("runs", "create", "builtin:demo", "--name", "life", *sizes)
        home.ok("iterate", "life", "--iterations", "2")
        home.wait_for("select 1 from samples limit 1")
        home.ok("runs", "pause", "life")
        home.wait_for(LIVE, lambda rows: rows == [{"count": 0}])
        before = counts(home)
        assert home.run("iterate", "life").returncode != 0
        assert counts(home) == before
        home.ok("runs", "resume", "life")
        home.wait_for("select 1 from jobs where state = 'running'")
        home.ok("runs", "cancel", "life")
        assert home.query(LIVE) == [{"count": 0}]
        home.ok("runs", "resume", "life")
        home.wait_until_done("life")
        check_finished_run(home, "life", json.loads(home.ok("runs", "show", "life")))

        home.ok("runs", "fork", "life", "--from", "1", "--set", "training.beta=0.5", "--name", "softer")
        home.ok("iterate", "softer", "--watch")
        assert "training.beta" in home.ok("runs", "diff", "life", "softer")
        assert home.query("select model from iteration_statistics where run = 'softer'") == [
            {"model": "life-M1"}
        ]
        assert "celery" in home.ok("logs", "sample-1", "-n", "200").lower()
        assert "needed" in home.ok("models", "prune", "--dry-run")
        assert home.run("runs", "delete", "life", "--yes").returncode == 1
        for run in ("softer", "life"):
            home.ok("runs", "delete", run, "--dry-run")
            home.ok("runs", "delete", run, "--yes")
        assert counts(home) == [{"samples": 0, "pairs": 0, "jobs": 0}]
        assert not list((home.folder / "home" / "models").glob("*/M*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_stopped_stops_the_stack_that_it_started(number: signal.Signals) -> None:
    with temporary_home() as home:
        demo = home.start("demo")
        wait_for(lambda: len(processes_below(home.folder)) > 6)  # servers, supervisor and workers
        demo.send_signal(number)
        assert demo.wait(60) == 130
        assert processes_below(home.folder) == []


def counts(home: Home) -> list[dict[str, int]]:
    return home.query(
        "select (select count(*) from samples) as samples, (select count(*) from preference_pairs) as pairs, "
        "(select count(*) from jobs) as jobs"
    )
