"""What the progress view says: where a run stands, and why something waits."""

import dataclasses

from hsstar.cli.views.progress import round_lines
from hsstar.insights.progress import finished_share, waiting_reasons
from hsstar.store.read.progress import QueueState, RoundProgress

NOTHING = RoundProgress(
    kind="iteration", number=0, state="waiting", model=None, problems=0, excluded=0, budget=0, allotted=0,
    drawn=0, verified=0, scored=0, inlier=0, boundary=0, outlier=0, pairs=0, queued=0, running=0, failed=0,
    slots_in_flight=0, failed_slots=0, training_steps_done=0, training_steps=None, started_at=None,
    seconds=None, accuracy=None, standard_error=None,
)  # fmt: skip
QUIET = QueueState("sample", 1, 0, 0, workers=1, wakeups_due=0, next_attempt_seconds=None, last_error=None)


def changed(found: RoundProgress, **values: object) -> RoundProgress:
    return dataclasses.replace(found, **values)  # type: ignore[arg-type]


def test_an_iteration_waits_for_the_one_before_until_that_has_its_policy() -> None:
    second = changed(NOTHING, number=1)
    for state, expected in (("training", "waits for iteration 0"), ("evaluating", "about to start")):
        assert expected in round_lines([changed(NOTHING, state=state), second])[1]
    assert "about to start" in round_lines([NOTHING])[0]


def test_counts_are_shown_per_stage() -> None:
    sampling = changed(NOTHING, state="re_sampling", budget=80, drawn=60, verified=50, scored=40, boundary=7)
    line = round_lines([sampling])[0]
    assert "re-sampling" in line
    for part in ("samples 60/80", "verified 50", "scored 40", "boundary 7"):
        assert part in line
    training = changed(NOTHING, state="training", training_steps_done=2, training_steps=9, failed=1)
    assert "training step 2/9, 1 jobs failed" in round_lines([training])[0]


def test_nothing_is_explained_while_everything_moves() -> None:
    assert waiting_reasons([QUIET]) == []


def test_every_reason_to_wait_says_what_to_do() -> None:
    reasons = {
        "hsstar worker --role sample": dataclasses.replace(QUIET, workers=0),
        "the broker does not take": dataclasses.replace(QUIET, wakeups_due=1),
        "tried again in 4 s after: out of memory": dataclasses.replace(
            QUIET, next_attempt_seconds=4.2, last_error="out of memory"
        ),
        "hsstar jobs retry": dataclasses.replace(QUIET, failed=2, last_error="bad prompt"),
    }
    for expected, queue in reasons.items():
        (reason,) = waiting_reasons([queue])
        assert expected in reason


def test_the_share_that_is_done_grows_from_nothing_to_all() -> None:
    stages = [
        NOTHING,
        changed(NOTHING, state="pre_sampling", budget=80, verified=30),
        changed(NOTHING, state="re_sampling", budget=80, verified=80),
        changed(NOTHING, state="training", budget=80, verified=80, training_steps_done=1, training_steps=2),
        changed(NOTHING, state="done"),
    ]
    shares = [finished_share([stage]) for stage in stages]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
