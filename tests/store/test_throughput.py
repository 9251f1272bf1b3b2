"""The throughput of earlier runs, from rows whose values are worked out by hand."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import method
from hsstar.store.read import studies
from hsstar.store.read.throughput import Throughput, throughput
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from tests.store.factory import Drawn, add_iteration, add_job, add_labels, add_problems, add_run, add_samples

RIGHT, WRONG = Drawn(Cause.CORRECT, 0.9), Drawn(Cause.INCORRECT, 0.4)


def measured(connection: Connection, policy: str = "M0", engine: str = "transformers") -> Throughput:
    return throughput(connection, policy, engine, "prm", "dpo")


def finished_iteration(connection: Connection) -> tuple[Run, Round]:
    """One done iteration: 2 problems with 2 samples of 10 tokens each; one pair."""
    run = add_run(connection)
    problems = add_problems(connection, 2)
    iteration = add_iteration(connection, run, problems)
    add_samples(
        connection, iteration.id, {problems[0]: {0: RIGHT, 1: WRONG}, problems[1]: {0: RIGHT, 1: RIGHT}}
    )
    add_labels(connection, iteration.id, dict.fromkeys(problems, "boundary"))
    method.build_pairs(connection, run, iteration)
    for kind, spans in {
        JobKind.SAMPLE: [(0, 4), (2, 8)],
        JobKind.SCORE: [(0, 2)],
        JobKind.TRAIN: [(0, 5)],
    }.items():
        for start, end in spans:
            job = add_job(connection, iteration.id, kind, state=JobState.DONE)
            connection.execute(
                text(
                    "UPDATE jobs SET worker = 'w', started_at = now() + make_interval(secs => :start), "
                    "finished_at = now() + make_interval(secs => :end) WHERE id = :id"
                ),
                {"id": job, "start": start, "end": end},
            )
    connection.execute(
        text("UPDATE iterations SET state = 'done', finished_at = now() WHERE round_id = :id"),
        {"id": iteration.id},
    )
    return run, iteration


def test_nothing_is_measured_without_rows(scratch: Callable[[], AbstractContextManager[Connection]]) -> None:
    with scratch() as connection:
        assert measured(connection) == Throughput(None, None, None, None, None)


def test_jobs_that_a_worker_has_in_hand_at_once_count_once(
    scratch: Callable[[], AbstractContextManager[Connection]],
) -> None:
    with scratch() as connection:
        finished_iteration(connection)
        found = measured(connection)
    assert found.tokens_per_sample == 10
    assert found.pairs_per_sample == pytest.approx(1 / 4)
    assert found.sampling_speed == pytest.approx(40 / 8)  # seconds 0 to 8, not 4 + 6
    assert found.scoring_speed == pytest.approx(40 / 2)
    assert found.training_speed == pytest.approx(20 / 5)


def test_other_policies_and_engines_say_nothing(
    scratch: Callable[[], AbstractContextManager[Connection]],
) -> None:
    with scratch() as connection:
        finished_iteration(connection)
        assert measured(connection, policy="other").tokens_per_sample is None
        vllm = measured(connection, engine="vllm")
    assert vllm.tokens_per_sample == 10
    assert vllm.sampling_speed is None


def test_the_states_of_runs_tell_what_holds_them_up(
    scratch: Callable[[], AbstractContextManager[Connection]],
) -> None:
    with scratch() as connection:
        done, _ = finished_iteration(connection)
        stuck = add_run(connection)
        iteration = add_iteration(connection, stuck, add_problems(connection, 2))
        add_job(connection, iteration.id, state=JobState.FAILED)
        found = studies.run_states(connection, [done.name, stuck.name, "nowhere"])
        assert found.keys() == {done.name, stuck.name}
        assert (found[done.name].under_way, found[done.name].stuck) == (False, False)
        assert (found[stuck.name].iterations, found[stuck.name].done) == (1, 0)
        assert found[stuck.name].stuck
        add_job(connection, iteration.id)
        assert not studies.run_states(connection, [stuck.name])[stuck.name].stuck
