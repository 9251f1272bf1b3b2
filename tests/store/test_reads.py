"""What is only read: exports, the list of runs, the queues of a run, the health of a deployment."""

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.verdict import Cause, Judgement
from hsstar.store import datasets, evaluations, method, models, rounds, runs, samples
from hsstar.store.evaluations import EvaluationSpec
from hsstar.store.queue import workers
from hsstar.store.read import exports, health, overview, progress
from hsstar.store.read.health import OpenJobs, RecentWorker
from hsstar.store.read.overview import RunSummary
from hsstar.store.samples import DrawnSample, SampleReward
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    change_jobs,
    claim,
    keys_of,
)

EXPORTED = """
    iteration problem query resp ref_ans ans correct cause slot difficulty min_reward reward tokens
    finish_reason cumulative_logprob seed model engine milliseconds
"""


def test_exports_say_everything_that_is_known_of_samples_and_pairs(connection: Connection) -> None:
    run = add_run(connection)
    sampled = models.register_model(connection, "M4", "/models/m4", "weights of M4")
    later, problem = add_problems(connection, 2)[::-1]
    iteration = add_iteration(connection, run, [problem, later], 4, sampled.id)
    drawn = [
        DrawnSample(problem, 0, "good", 11, 21, "stop", -0.5, "engine 1", 31.5),
        DrawnSample(problem, 1, "bad", 12, 22, "length", -1.5, "engine 2", 32.5),
        DrawnSample(later, 0, "unread"),
    ]
    samples.write_samples(connection, iteration.id, sampled.id, "w", drawn[2:])
    samples.write_samples(connection, iteration.id, sampled.id, "w", drawn[:2])
    ids = list(connection.scalars(text("SELECT id FROM samples ORDER BY problem_id, slot")))
    samples.write_verdicts(
        connection, ids[:2], [Judgement(Cause.CORRECT, "0"), Judgement(Cause.UNPARSABLE, "1+*")]
    )
    assert run.reward_model_id is not None
    rewards = [SampleReward(ids[0], (0.75, 0.5), 0.5, False), SampleReward(ids[1], (0.25,), 0.25, True)]
    samples.write_rewards(connection, run.reward_model_id, rewards)
    add_labels(connection, iteration.id, {problem: "boundary"})
    method.build_pairs(connection, run, iteration)
    add_samples(
        connection, add_iteration(connection, add_run(connection), [problem]).id, {problem: {5: Drawn()}}
    )
    keys = keys_of(connection, [problem, later])

    first, second, third = exports.export_samples(connection, run)
    assert list(first) == EXPORTED.split()
    shared = (4, keys[problem], "train problem 0")
    assert tuple(first.values())[:14] == (
        *shared,
        *("good", "0", "0", True, "correct", 0, "boundary", 0.5, [0.75, 0.5], 21, "stop"),
    )
    assert tuple(first.values())[14:] == (-0.5, 11, "M4", "engine 1", 31.5)
    assert tuple(second.values())[:14] == (
        *shared,
        *("bad", "0", "1+*", False, "unparsable", 1, "boundary", 0.25, [0.25], 22, "length"),
    )
    assert tuple(second.values())[14:] == (-1.5, 12, "M4", "engine 2", 32.5)
    assert {name: value for name, value in third.items() if value is not None} == {
        "iteration": 4,
        "problem": keys[later],
        "query": "train problem 1",
        "resp": "unread",
        "ref_ans": "1",
        "slot": 0,
        "model": "M4",
    }
    assert list(exports.export_rewards(connection, run)) == [
        {"query": "train problem 0", "resp": "good", "reward": [0.75, 0.5], "correct": True},
        {"query": "train problem 0", "resp": "bad", "reward": [0.25], "correct": False},
    ]
    (pair,) = exports.export_pairs(connection, run, lambda statement: f"Solve: {statement}")
    pair_of = (
        "prompt iteration problem chosen rejected chosen_slot rejected_slot chosen_reward rejected_reward"
    )
    assert pair == dict(
        zip(
            pair_of.split(),
            ("Solve: train problem 0", 4, keys[problem], "good", "bad", 0, 1, 0.5, 0.25),
            strict=True,
        )
    )


def test_the_list_of_runs_says_where_each_one_stands(connection: Connection) -> None:
    add_run(connection, name="new")
    under_way, done, evaluating = (add_run(connection, name=name) for name in ("going", "done", "measured"))
    for number, state in enumerate((IterationState.DONE, IterationState.RE_SAMPLING, IterationState.WAITING)):
        round_id = add_iteration(connection, under_way, [], number).id
        rounds.set_state(connection, round_id, state)
    add_iteration(connection, evaluating, [])
    for run, finished in ((done, True), (evaluating, False)):
        for iteration in rounds.list_iterations(connection, run.id):
            rounds.set_state(connection, iteration.round.id, IterationState.DONE)
        spec = EvaluationSpec("key", datasets.ensure_dataset(connection, TRAIN), 1, None)
        added = evaluations.add_evaluation(connection, run.id, 0, run.model_id, spec)
        if finished:
            evaluations.finish(connection, added)
    counts = {
        JobState.QUEUED: 3,
        JobState.RUNNING: 2,
        JobState.FAILED: 1,
        JobState.DONE: 4,
        JobState.DISCARDED: 5,
    }
    for state_of_job, count in counts.items():
        for _ in range(count):
            add_job(connection, round_id, state=state_of_job)
    assert overview.summarise_runs(connection) == [
        RunSummary("new", 0, 0, "not started", 0, 0, 0),
        RunSummary("going", 3, 1, "re-sampling", 3, 2, 1),
        RunSummary("done", 0, 0, "done", 0, 0, 0),
        RunSummary("measured", 1, 1, "evaluating", 0, 0, 0),
    ]
    assert runs.active_run_ids(connection) == [under_way.id, evaluating.id]


def test_the_policies_of_a_run_are_its_first_one_and_what_its_iterations_made(connection: Connection) -> None:
    run = add_run(connection)
    made = [models.register_model(connection, name, f"/{name}", name).id for name in ("second", "first")]
    for number in range(2):
        round_id = add_iteration(connection, run, [], number).id
        rounds.set_state(connection, round_id, IterationState.DONE, made[1 - number])
    add_iteration(connection, run, [], 2)
    assert rounds.list_policies(connection, run.id) == [(0, "M0"), (1, "first"), (2, "second")]


def add_workers(connection: Connection) -> None:
    """Idle, busy, lost, long gone and stopped."""
    heard = {"idle": 0, "busy": 60, "lost": 61, "gone": 86_400, "stopped": 0}
    for name, seconds in heard.items():
        workers.register(
            connection, name, "host", 1, "verify,sample", version="1.0" if name == "idle" else None
        )
        workers.heartbeat(connection, name, busy=name == "busy", jobs_done=0)
        if name == "stopped":
            workers.deregister(connection, name)
        connection.execute(
            text("UPDATE workers SET last_heartbeat = now() - make_interval(secs => :s) WHERE name = :name"),
            {"s": seconds, "name": name},
        )


def test_the_queues_of_a_run_say_what_waits_and_why(connection: Connection) -> None:
    add_workers(connection)
    round_id = add_iteration(connection, add_run(connection, name="mine"), []).id
    waiting = [add_job(connection, round_id) for _ in range(3)]
    add_job(connection, round_id, state=JobState.DONE)
    delayed = [add_job(connection, round_id, JobKind.SCORE) for _ in range(2)]
    for job_id, seconds in zip(delayed, (20, 50), strict=True):
        late = f"error = 'error {seconds}', available_at = now() + interval '{seconds} seconds'"
        change_jobs(connection, late, job_id)
    claim(connection, add_job(connection, round_id, JobKind.SCORE))
    add_job(connection, round_id, JobKind.TRAIN, state=JobState.FAILED)
    add_job(connection, round_id, JobKind.VERIFY, state=JobState.DISCARDED)
    run = runs.find_run(connection, "mine")

    def states(late: int) -> dict[str, progress.QueueState]:
        change_jobs(connection, f"available_at = now() - interval '{late} seconds'", *waiting)
        return {state.kind: state for state in progress.queue_states(connection, run.id)}

    assert states(late=9) == {
        "sample": progress.QueueState("sample", 3, 0, 0, 2, 3, None, None),
        "score": progress.QueueState("score", 2, 1, 0, 0, 0, 20.0, "error 50"),
        "train": progress.QueueState("train", 0, 0, 1, 0, 0, None, "it broke"),
    }
    assert states(late=8)["sample"].wakeups_due == 0
    change_jobs(connection, "wakeup_sent_at = now()", waiting[0])
    assert states(late=9)["sample"].wakeups_due == 0  # the head of the queue has its message


@pytest.mark.parametrize(
    ("kind", "late", "expired", "unserved"),
    [("score", 60, 0, 0), ("score", 61, 1, 2), ("sample", 61, 1, 0)],
)
def test_the_health_of_a_deployment(
    connection: Connection, kind: JobKind, late: int, expired: int, unserved: int
) -> None:
    add_workers(connection)
    round_id = add_iteration(connection, add_run(connection), []).id
    queued = [add_job(connection, round_id, JobKind(kind)) for _ in range(2)]
    claim(connection, add_job(connection, round_id, JobKind(kind)), lease_seconds=30 - late)
    for state in (JobState.FAILED, JobState.FAILED, JobState.FAILED, JobState.DONE):
        add_job(connection, round_id, JobKind(kind), state=state)
    change_jobs(connection, f"available_at = now() - interval '{late} seconds'", *queued)
    assert health.open_jobs(connection) == [OpenJobs(kind, 3, 3, expired, unserved)]
    assert health.recent_workers(connection) == [
        RecentWorker("busy", "verify,sample", None, lost=False),
        RecentWorker("idle", "verify,sample", "1.0", lost=False),
        RecentWorker("lost", "verify,sample", None, lost=True),
    ]
    shown = overview.summarise_workers(connection, stopped=False)
    assert [(worker.worker, worker.state) for worker in shown] == [
        ("busy", "busy"),
        ("gone", "lost"),
        ("idle", "idle"),
        ("lost", "lost"),
    ]
    workers.request_stop(connection, ["idle"], [], everyone=False)
    shown = overview.summarise_workers(connection, stopped=True)
    assert [worker.state for worker in shown] == ["busy", "lost", "stopping", "lost", "stopped"]
