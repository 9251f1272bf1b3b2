"""How long a run still takes, as a list of runs estimates it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hsstar.insights.run_list import TimeLeft, time_left
from hsstar.store.read.overview import RunFigures, RunSummary

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def summary(iterations: int, done: int, state: str = "re-sampling") -> RunSummary:
    return RunSummary("run", iterations, done, state, 1, 1, 0)


def figures(
    verified: int, began_seconds_ago: float | None, mean: float | None = None, state: str = "re_sampling"
) -> RunFigures:
    began = None if began_seconds_ago is None else NOW - timedelta(seconds=began_seconds_ago)
    return RunFigures(
        "run",
        0,
        "M0",
        None,
        None,
        state,
        began,
        1_000,
        verified,
        verified,
        0,
        0,
        0,
        0,
        0,
        0,
        None,
        None,
        mean,
        [],
    )


@pytest.mark.parametrize(
    ("run", "newest", "expected"),
    [
        # half of the samples are 40 % of an iteration: 40 s for these, 60 s for the rest
        (summary(1, 0), figures(500, 40), TimeLeft(60.0, "pace of iteration 0, 40% of it done")),
        # later iterations take as long as those that are done, else as long as this one will
        (summary(3, 1), figures(500, 40, 70.0), TimeLeft(130.0, "pace of iteration 0, 40% of it done")),
        (summary(2, 0), figures(500, 40), TimeLeft(160.0, "pace of iteration 0, 40% of it done")),
        # one that has hardly begun says nothing of its pace
        (summary(3, 1), figures(10, 40, 70.0), TimeLeft(140.0, "mean of 1 iterations")),
        (summary(3, 1), figures(1_000, 40, 70.0, "done"), TimeLeft(140.0, "mean of 1 iterations")),
        (summary(2, 0), figures(10, 40), None),
        (summary(1, 0), figures(0, None), None),
        (summary(1, 1, "done"), figures(1_000, 40, 40.0, "done"), None),
        (summary(2, 1, "paused"), figures(500, 40, 70.0), None),
    ],
)
def test_the_time_that_is_left_follows_from_the_pace(
    run: RunSummary, newest: RunFigures, expected: TimeLeft | None
) -> None:
    estimate = time_left(run, newest, NOW)
    if expected is None or estimate is None:
        assert estimate == expected
    else:
        assert estimate.seconds == pytest.approx(expected.seconds)
        assert estimate.basis == expected.basis


def test_a_training_is_estimated_by_its_own_pace() -> None:
    """Sampling took a minute; 10 of 1,000 steps took 100 s: 9,900 s are left, whatever share is done."""
    sampled = figures(1_000, 160, state="training")
    began = NOW - timedelta(seconds=100)
    newest = replace(sampled, training_steps_done=10, training_steps=1_000, training_started_at=began)
    estimate = time_left(summary(1, 0, "training"), newest, NOW)
    assert estimate is not None
    assert estimate.seconds == pytest.approx(9_900)
    assert estimate.basis == "pace of the training, step 10 of 1,000"
