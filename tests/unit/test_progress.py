"""What the progress view says: where a run stands, and why something waits."""

import time
from dataclasses import astuple, replace
from typing import Any

import pytest

from hsstar.cli.views.progress_lines import round_lines
from hsstar.insights.lengths import drift_warnings, pair_warnings
from hsstar.insights.progress import Pace, RunProgress, finished_share, open_rounds, waiting_reasons
from hsstar.store.read.progress import PolicyLengths, QueueState, RoundProgress
from tests.unit.tables import tables

NOTHING = RoundProgress(
    kind="iteration", number=0, state="waiting", model=None, context=None, output_model=None, problems=0,
    excluded=0, budget=0, allotted=0, drawn=0, verified=0, scored=0, correct=0, cut=0, cut_by_context=0,
    no_answer=0, mean_tokens=None, waves=0, inlier=0, boundary=0, outlier=0, pairs=0, distinct_pairs=0,
    problems_with_pair=0, queued=0, running=0, failed=0, slots_in_flight=0, failed_slots=0,
    training_steps_done=0, training_steps=None, rows_trained=0, started_at=None, seconds=None, accuracy=None,
    standard_error=None,
)  # fmt: skip
QUIET = QueueState("sample", 1, 0, 0, workers=1, wakeups_due=0, next_attempt_seconds=None, last_error=None)
FAILED = replace(QUIET, queued=0, failed=2, last_error="bad prompt")


SAMPLED = replace(NOTHING, state="re_sampling", budget=800, drawn=700, verified=500)
MEASURED = replace(NOTHING, kind="evaluation", budget=80, drawn=30, verified=10)
DONE = replace(NOTHING, state="done")


def test_an_iteration_waits_for_the_one_before_until_that_has_its_policy() -> None:
    second = replace(NOTHING, number=1)
    for state, expected in (("training", "waits for iteration 0"), ("evaluating", "about to start")):
        assert expected in round_lines([replace(NOTHING, state=state), second])[1]
    assert "about to start" in round_lines([NOTHING])[0]
    assert "waits until the run is resumed" in round_lines([NOTHING], held=True)[0]
    assert RunProgress([NOTHING], [replace(QUIET, running=1)], "r is held").state == "running"
    assert RunProgress([DONE], [QUIET], "r is held").state == "held"


@pytest.mark.parametrize(("values", "line"), tables("progress")["lines"])
def test_counts_are_shown_per_stage(values: dict[str, Any], line: str) -> None:
    assert round_lines([replace(NOTHING, **values)]) == [line]


def lengths(*policies: tuple[int, float], key: str = "heldout", drawn: int = 60) -> list[RoundProgress]:
    kind = "evaluation" if key else "iteration"
    return [
        replace(NOTHING, kind=kind, number=number, evaluation_key=key, drawn=drawn, mean_tokens=tokens)
        for number, tokens in policies
    ]


def test_a_length_that_training_changes_by_more_than_a_quarter_is_a_warning() -> None:
    (warning,) = drift_warnings(lengths((0, 41), (1, 39), (2, 24)))
    assert warning.startswith(
        "responses of M_2 have 24 tokens, of M_0 41 (-41%): training changes their length"
    )
    assert drift_warnings(lengths((0, 40), (1, 10), (2, 50))) == []  # the newest counts
    assert drift_warnings(lengths((0, 40), (1, 60), drawn=49)) == []  # too few to say
    assert drift_warnings([*lengths((0, 40), (1, 60), key=""), *lengths((0, 40), (1, 40))]) == []
    assert (
        len(drift_warnings([*lengths((0, 40), (1, 60), key=""), *lengths((0, 40), (1, 60), key="sums")])) == 1
    )
    assert drift_warnings([NOTHING]) == drift_warnings([]) == []


def test_pairs_of_unlike_lengths_are_a_warning() -> None:
    like = PolicyLengths(0, "M0", None, 40, None, None, None, 40, 52, 0.0)
    assert pair_warnings([like, replace(like, chosen=None, rejected=None)]) == []
    (warning,) = pair_warnings([like, replace(like, policy=1, rejected=60)])
    assert warning.startswith("iteration 1: chosen responses have 40 tokens, rejected ones 60 (-33%)")


def test_nothing_is_explained_while_everything_moves() -> None:
    assert waiting_reasons([QUIET, replace(QUIET, still_seconds=300.0), replace(QUIET, abandoned=1)]) == []


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        (replace(QUIET, workers=0), "hsstar worker --role sample"),
        (replace(QUIET, queued=0, workers=0, abandoned=2), "2 sample jobs wait because no live worker"),
        (replace(QUIET, wakeups_due=1), "the broker does not take"),
        (replace(QUIET, next_attempt_seconds=4.2, last_error="no room"), "tried again in 4 s after: no room"),
        (FAILED, "hsstar jobs retry"),
        (replace(QUIET, still_seconds=301.0), "no progress for 301 s in a running sample job"),
    ],
)
def test_every_reason_to_wait_says_what_to_do(queue: QueueState, expected: str) -> None:
    (reason,) = waiting_reasons([queue])
    assert expected in reason


@pytest.mark.parametrize(
    ("rounds", "share"),
    [
        ([], 1.0),
        ([NOTHING], 0.0),
        ([SAMPLED], 0.8 * 600 / 800),
        ([replace(SAMPLED, drawn=800, verified=800, training_steps_done=1, training_steps=2)], 0.8 + 0.2 / 2),
        ([DONE], 1.0),
        ([DONE, SAMPLED], (1 + 0.6) / 2),
        ([MEASURED], 0.25),
        ([SAMPLED, MEASURED], 0.6),
    ],
)
def test_a_fifth_of_an_iteration_is_its_training(rounds: list[RoundProgress], share: float) -> None:
    assert finished_share(rounds) == pytest.approx(share)


def test_the_time_left_follows_from_the_pace_since_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    assert pace.time_left([SAMPLED]) is None
    now = 130.0
    assert pace.time_left([replace(SAMPLED, drawn=705)]) is None  # half a percent says nothing
    left = pace.time_left([replace(SAMPLED, drawn=750, verified=650)])
    assert left is not None
    assert (left.seconds, left.gained, left.measured_seconds) == pytest.approx((30 * 0.3 / 0.1, 0.1, 30))
    assert pace.time_left([replace(SAMPLED, state="done")]) is None
    assert pace.elapsed == 30


@pytest.mark.parametrize(
    ("last", "queues", "state"),
    [
        ("done", [replace(QUIET, queued=0, failed=1)], "done"),
        ("training", [], "running"),
        ("training", [QUIET], "running"),
        ("training", [replace(QUIET, queued=0, running=1), FAILED], "running"),
        ("training", [QUIET, FAILED], "running"),
        ("training", [FAILED], "stuck"),
        ("training", [FAILED, replace(FAILED, failed=0)], "stuck"),
    ],
)
def test_failed_jobs_hold_a_run_up_once_all_rests(last: str, queues: list[QueueState], state: str) -> None:
    assert RunProgress([DONE, replace(NOTHING, state=last)], queues).state == state


def test_an_open_round_lacks_what_is_neither_drawn_nor_assigned() -> None:
    row = replace(
        NOTHING, state="pre_sampling", budget=80, drawn=30, slots_in_flight=20, failed_slots=6, queued=3,
        running=2,
    )  # fmt: skip
    found = open_rounds([DONE, row, replace(MEASURED, budget=1, drawn=5)])
    assert [astuple(entry) for entry in found] == [
        ("iteration 0", 30, 20, 6, 24, 3, 2),
        ("evaluation 0", 5, 0, 0, 0, 0, 0),
    ]
