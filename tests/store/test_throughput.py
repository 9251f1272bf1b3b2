"""The throughput of earlier runs, from rows whose values are worked out by hand."""

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import method
from hsstar.store.read import studies
from hsstar.store.read.throughput import Throughput, throughput
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from tests.store.factory import (
    Drawn,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    change_jobs,
)

RIGHT, WRONG = Drawn(Cause.CORRECT, 0.9), Drawn(Cause.INCORRECT, 0.4)


def measured(connection: Connection, policy: str = "M0", engine: str = "transformers") -> Throughput:
    return throughput(connection, policy, engine, ["prm"], "dpo")


def finished_iteration(connection: Connection) -> tuple[Run, Round]:
    """One done iteration: 2 problems with 2 samples of 10 tokens each; one pair."""
    run = add_run(connection)
    first, second = problems = add_problems(connection, 2)
    iteration = add_iteration(connection, run, problems)
    add_samples(connection, iteration.id, {first: {0: RIGHT, 1: WRONG}, second: {0: RIGHT, 1: RIGHT}})
    add_labels(connection, iteration.id, dict.fromkeys(problems, "boundary"))
    method.build_pairs(connection, run, iteration)
    sampling, scoring, training = JobKind.SAMPLE, JobKind.SCORE, JobKind.TRAIN
    for kind, start, end in ((sampling, 0, 4), (sampling, 2, 8), (scoring, 0, 2), (training, 0, 5)):
        job_id = add_job(connection, iteration.id, kind, state=JobState.DONE)
        times = f"started_at = now() + interval '{start} s', finished_at = now() + interval '{end} s'"
        change_jobs(connection, f"worker = 'w', {times}", job_id)
    done = "UPDATE iterations SET state = 'done', finished_at = now() WHERE round_id = :id"
    connection.execute(text(done), {"id": iteration.id})
    return run, iteration


def test_nothing_is_measured_without_rows(connection: Connection) -> None:
    assert measured(connection) == Throughput(None, None, None, None, None)


def test_jobs_at_once_count_once_and_those_of_other_policies_and_engines_not_at_all(
    connection: Connection,
) -> None:
    finished_iteration(connection)
    sampling = 40 / 8  # seconds 0 to 8, not 4 + 6
    assert measured(connection) == Throughput(10, 1 / 4, sampling, 40 / 2, 20 / 5)
    assert measured(connection, policy="other").tokens_per_sample is None
    finished_iteration(connection)
    assert measured(connection) == Throughput(10, 1 / 4, 80 / 8, 80 / 2, 40 / 5)  # two runs of one worker
    unpaired = finished_iteration(connection)[1].id
    connection.execute(text("DELETE FROM preference_pairs WHERE round_id = :id"), {"id": unpaired})
    assert measured(connection) == Throughput(10, 1 / 4, 120 / 8, 120 / 2, 40 / 5)
    vllm = measured(connection, engine="vllm")
    assert (vllm.tokens_per_sample, vllm.sampling_speed) == (10, None)


def test_the_states_of_runs_tell_what_holds_them_up(connection: Connection) -> None:
    done, _ = finished_iteration(connection)
    stuck = add_run(connection)
    iteration = add_iteration(connection, stuck, add_problems(connection, 2))
    add_job(connection, iteration.id, state=JobState.FAILED)
    states = studies.run_states(connection, [done.name, stuck.name, "nowhere"])
    found = {name: (run.iterations, run.done, run.under_way, run.stuck) for name, run in states.items()}
    assert found == {done.name: (1, 1, False, False), stuck.name: (1, 0, True, True)}
    add_job(connection, iteration.id)
    assert not studies.run_states(connection, [stuck.name])[stuck.name].stuck
