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
    return throughput(connection, policy, engine, "prm", "dpo")


def finished_iteration(connection: Connection) -> tuple[Run, Round]:
    """One done iteration: 2 problems with 2 samples of 10 tokens each; one pair."""
    run = add_run(connection)
    problems = add_problems(connection, 2)
    iteration = add_iteration(connection, run, problems)
    drawn = {problems[0]: {0: RIGHT, 1: WRONG}, problems[1]: {0: RIGHT, 1: RIGHT}}
    add_samples(connection, iteration.id, drawn)
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


def test_jobs_that_a_worker_has_in_hand_at_once_count_once(connection: Connection) -> None:
    finished_iteration(connection)
    assert measured(connection) == Throughput(
        tokens_per_sample=10,
        pairs_per_sample=1 / 4,
        sampling_speed=40 / 8,  # seconds 0 to 8, not 4 + 6
        scoring_speed=40 / 2,
        training_speed=20 / 5,
    )


def test_other_policies_and_engines_say_nothing(connection: Connection) -> None:
    finished_iteration(connection)
    assert measured(connection, policy="other").tokens_per_sample is None
    vllm = measured(connection, engine="vllm")
    assert (vllm.tokens_per_sample, vllm.sampling_speed) == (10, None)


def test_the_states_of_runs_tell_what_holds_them_up(connection: Connection) -> None:
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
