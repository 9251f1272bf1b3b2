"""What is only read: exports, runs, their queues, the health of a deployment, the lineage of policies."""

import json
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.rounding import SampledUpdate, WeightUpdate
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause, Judgement, Verdict
from hsstar.store import evaluations, method, models, rounds, runs, samples, training
from hsstar.store.queue import workers
from hsstar.store.read import exports, health, overview, progress
from hsstar.store.read.lineage import ancestry, lineage, sampled_updates
from hsstar.store.rewards import SampleReward
from hsstar.store.runs import Run
from hsstar.store.samples import DrawnSample
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import add_evaluation, add_iteration, add_job, add_run, change_jobs, claim

EXPORTED = json.loads(Path(__file__).with_name("exports.json").read_text())


def test_exports_say_everything_that_is_known_of_samples_and_pairs(connection: Connection) -> None:
    run = add_run(connection)
    sampled = models.register_model(connection, "M4", "/models/m4", "weights of M4")
    problem, later = factory.add_problems(connection, 2)
    iteration = add_iteration(connection, run, [problem, later], 4, sampled.id)
    drawn = [
        DrawnSample(problem, 0, "good", 11, 21, "stop", -0.5, "engine 1", 31.5),
        DrawnSample(problem, 1, "bad", 12, 22, "length", -1.5, "engine 2", 32.5),
        DrawnSample(later, 0, "unread"),
    ]
    samples.write_samples(connection, iteration.id, sampled.id, "w", drawn[2:])
    samples.write_samples(connection, iteration.id, sampled.id, "w", drawn[:2])
    ids = [key for (key,) in factory.select(connection, "SELECT id FROM samples ORDER BY problem_id, slot")]
    judgements = [Judgement(Cause.CORRECT, "0"), Judgement(Cause.UNPARSABLE, "1+*")]
    samples.write_verdicts(connection, "w", "v", ids[:2], judgements)
    rewards = [SampleReward(ids[0], (0.75, 0.5), False), SampleReward(ids[1], (0.25,), True)]
    factory.write_rewards(connection, run, rewards)
    factory.add_labels(connection, iteration.id, {problem: "boundary"})
    method.build_pairs(connection, run, iteration)
    other = add_iteration(connection, add_run(connection), [problem])
    factory.add_samples(connection, other.id, {problem: {5: factory.Drawn()}})
    exported = {
        "samples": [*exports.export_samples(connection, run)],
        "rewards": [*exports.export_rewards(connection, run)],
        "pairs": [*exports.export_pairs(connection, run)],
    }
    assert exported == EXPORTED
    assert json.dumps(exported) == json.dumps(EXPORTED)  # the fields in their order


judged = st.tuples(
    st.sampled_from([Cause.CORRECT, Cause.CORRECT, *Cause, None]),
    st.none() | st.sampled_from([0.1, 0.2, 1 / 3, 1.0]),
)


@examples(40)
@given(st.lists(st.lists(judged, max_size=6), min_size=1, max_size=5))
def test_an_advantage_is_that_among_the_samples_of_the_problem(scratch: Scratch, groups: list[Any]) -> None:
    with scratch() as connection:
        run, ids = add_run(connection), factory.add_problems(connection, len(groups))
        for number in range(2):
            iteration = add_iteration(connection, run, ids, number)
            drawn = {
                problem: {slot: factory.Drawn(*one) for slot, one in enumerate(group[number:])}
                for problem, group in zip(ids, groups, strict=True)
            }
            factory.add_samples(connection, iteration.id, drawn)
        expected: dict[str, list[tuple[Any, ...]]] = {"verdict": [], "reward": []}
        for number, (problem, group) in product(range(2), zip(ids, groups, strict=True)):
            right: dict[Verdict | None, float] = {Verdict.CORRECT: 1.0, Verdict.INCORRECT: 0.0}
            for by, of in (
                ("verdict", [right.get(VERDICT_OF_CAUSE[cause]) if cause else None for cause, _ in group]),
                ("reward", [reward for _, reward in group]),
            ):
                known = [reward for reward in of[number:] if reward is not None]
                for slot, reward in enumerate(of[number:]):
                    if reward is None:
                        continue
                    varied = len(set(known)) > 1
                    advantage = (reward - mean(known)) / stdev(known) if varied else 0.0
                    row = f"{number}/{problem}", slot, reward, varied, len(known), pytest.approx(advantage)
                    expected[by].append(row)
        for by in get_args(exports.GroupReward):
            found = [
                tuple(row[name] for name in ("group", "slot", "reward", "varied", "group_size", "advantage"))
                for row in exports.export_groups(connection, run, by)
            ]
            assert found == expected[by]


def test_the_list_of_runs_says_where_each_one_stands(connection: Connection) -> None:
    _, under_way, done, evaluating = (
        add_run(connection, name=name) for name in ("new", "going", "done", "measured")
    )
    for number, state in enumerate((IterationState.DONE, IterationState.RE_SAMPLING, IterationState.WAITING)):
        round_id = add_iteration(connection, under_way, [], number).id
        factory.set_state(connection, round_id, state)
    iteration = add_iteration(connection, evaluating, [])
    factory.set_state(connection, iteration.id, IterationState.DONE)
    add_evaluation(connection, evaluating)
    finished = add_evaluation(connection, done)
    evaluations.finish(connection, rounds.get_round(connection, finished))
    states = (JobState.FAILED, JobState.RUNNING, JobState.QUEUED, JobState.DONE, JobState.DISCARDED)
    for count, of_jobs in enumerate(states, 1):
        for _ in range(count):
            add_job(connection, round_id, state=of_jobs)
    assert overview.summarise_runs(connection) == [
        overview.RunSummary("new", 0, 0, "not started", 0, 0, 0),
        overview.RunSummary("going", 3, 1, "re-sampling", 3, 2, 1),
        overview.RunSummary("done", 0, 0, "done", 0, 0, 0),
        overview.RunSummary("measured", 1, 1, "evaluating", 0, 0, 0),
    ]
    assert runs.active_run_ids(connection) == [under_way.id, evaluating.id]


def test_the_policies_of_a_run_are_its_first_one_and_what_its_iterations_made(connection: Connection) -> None:
    run = add_run(connection)
    made = [models.register_model(connection, name, f"/{name}", name).id for name in ("second", "first")]
    for number in range(2):
        round_id = add_iteration(connection, run, [], number).id
        factory.set_state(connection, round_id, IterationState.DONE, made[1 - number])
    add_iteration(connection, run, [], 2)
    assert rounds.list_policies(connection, run.id) == [(0, "M0"), (1, "first"), (2, "second")]


def add_workers(connection: Connection) -> None:
    """Idle, busy, lost, long gone and stopped."""
    for name, seconds in {"idle": 0, "busy": 60, "lost": 61, "gone": 86_400, "stopped": 0}.items():
        version = "1.0" if name == "idle" else None
        worker = factory.add_worker(connection, name, "verify,sample", version=version)
        factory.beat(connection, worker, busy=name == "busy")
        if name == "stopped":
            workers.deregister(connection, name)
        heard = f"last_heartbeat = now() - interval '{seconds} seconds'"
        factory.execute(connection, f"UPDATE workers SET {heard} WHERE name = :name", name=name)


def test_the_queues_of_a_run_say_what_waits_and_why(connection: Connection) -> None:
    add_workers(connection)
    run = add_run(connection)
    round_id = add_iteration(connection, run, []).id
    waiting = [add_job(connection, round_id) for _ in range(3)]
    add_job(connection, round_id, state=JobState.DONE)
    delayed = [add_job(connection, round_id, JobKind.SCORE) for _ in range(2)]
    for job_id, seconds in zip(delayed, (20, 50), strict=True):
        late = f"error = 'error {seconds}', available_at = now() + interval '{seconds} seconds'"
        change_jobs(connection, late, job_id)
    running = add_job(connection, round_id, JobKind.SCORE)
    claim(connection, running)
    change_jobs(connection, "moved_at = now() - interval '70 seconds'", running)
    abandoned = add_job(connection, round_id, JobKind.SCORE)
    claim(connection, abandoned)
    change_jobs(connection, "moved_at = now() - interval '1 hour', lease_expires_at = now()", abandoned)
    add_job(connection, round_id, JobKind.TRAIN, state=JobState.FAILED)
    add_job(connection, round_id, JobKind.VERIFY, state=JobState.DISCARDED)

    def states(late: int) -> dict[str, progress.QueueState]:
        change_jobs(connection, f"available_at = now() - interval '{late} seconds'", *waiting)
        return {state.kind: state for state in progress.queue_states(connection, run.id)}

    assert states(late=9) == {
        "sample": progress.QueueState("sample", 3, 0, 0, 2, 3, None, None),
        "score": progress.QueueState("score", 2, 2, 0, 0, 0, 20.0, "error 50", 70.0, abandoned=1),
        "train": progress.QueueState("train", 0, 0, 1, 0, 0, None, "it broke"),
    }
    assert states(late=8)["sample"].wakeups_due == 0
    change_jobs(connection, "wakeup_sent_at = now()", waiting[0])
    assert states(late=9)["sample"].wakeups_due == 0  # the head of the queue has its message


@pytest.mark.parametrize(
    ("kind", "late", "expired", "unserved"),
    [(JobKind.SCORE, 60, 0, 0), (JobKind.SCORE, 61, 1, 2), (JobKind.SAMPLE, 61, 1, 0)],
)
def test_the_health_of_a_deployment(
    connection: Connection, kind: JobKind, late: int, expired: int, unserved: int
) -> None:
    add_workers(connection)
    round_id = add_iteration(connection, add_run(connection), []).id
    queued = [add_job(connection, round_id, kind) for _ in range(2)]
    for lease_seconds, still in ((30 - late, 900), (30, 7)):
        running = add_job(connection, round_id, kind)
        claim(connection, running, lease_seconds=lease_seconds)
        change_jobs(connection, f"moved_at = now() - interval '{still} seconds'", running)
    for state in (JobState.FAILED, JobState.FAILED, JobState.FAILED, JobState.DONE):
        add_job(connection, round_id, kind, state=state)
    change_jobs(connection, f"available_at = now() - interval '{late} seconds'", *queued)
    assert health.open_jobs(connection) == [health.OpenJobs(kind, 4, 3, expired, unserved, 7.0)]
    assert health.recent_workers(connection) == [
        health.RecentWorker("busy", "verify,sample", None, lost=False),
        health.RecentWorker("idle", "verify,sample", "1.0", lost=False),
        health.RecentWorker("lost", "verify,sample", None, lost=True),
    ]


def test_a_worker_that_is_not_heard_of_stays_listed(connection: Connection) -> None:
    add_workers(connection)
    listed = overview.summarise_workers(connection, stopped=False)
    states = [("busy", "busy"), ("gone", "lost"), ("idle", "idle"), ("lost", "lost")]
    assert [(worker.worker, worker.state) for worker in listed] == states


def train(connection: Connection, run: Run, number: int, parent: models.Model) -> models.Model:
    """An iteration of a run that has made a policy of another one, on two pairs."""
    iteration = add_iteration(connection, run, [], number)
    job = claim(connection, add_job(connection, iteration.id, JobKind.TRAIN))
    record = training.begin_training(connection, job, parent.id, "dpo", {"beta": 0.1}, [7, 9])
    name = f"{run.name}-M{number + 1}"
    update = SampledUpdate("float16", [WeightUpdate("all", "float16", 3, 0.5, 0.25, 0.125, None)])
    made = models.register_model(connection, name, f"/models/{name}", f"weights of {name}", parent.id)
    training.finish_training(connection, record, made.id, 0, 5, {"loss": 0.5}, update)
    return made


@pytest.fixture
def tree(connection: Connection) -> Connection:
    """M0 → a-M1 → a-M2, M0 → b-M1, and a policy that nothing comes from."""
    first = add_run(connection, factory.make_recipe(evaluation={"dataset": factory.HELDOUT}), "a")
    start = models.find_model(connection, "M0")
    middle = train(connection, first, 0, start)
    train(connection, first, 1, middle)
    train(connection, add_run(connection, name="b"), 0, start)
    models.register_model(connection, "other", "/models/other", "other weights")
    for number, (model, accuracy) in enumerate(((start, 0.5), (middle, 0.625))):
        add_evaluation(connection, first, "heldout", number, model.id, accuracy)
    return connection


def test_every_policy_stands_behind_its_parent(tree: Connection) -> None:
    found = lineage(tree)
    assert [(entry.depth, entry.name, entry.parent) for entry in found] == [
        (0, "M0", None),
        (1, "a-M1", "M0"),
        (2, "a-M2", "a-M1"),
        (1, "b-M1", "M0"),
        (0, "other", None),
    ]
    start, made = found[:2]
    assert (start.run, start.items, [*map(str, start.scores)]) == (None, None, ["train 0.500 ± 0.062"])
    assert (made.run, made.iteration, made.objective, made.items, made.steps) == ("a", 0, "dpo", 2, 5)
    assert (made.settings, [*map(str, made.scores)]) == ({"beta": 0.1}, ["train 0.625 ± 0.078"])
    assert made.recipe is not None
    assert (start.update.norm, start.update.warning) == (None, None)
    assert (made.update.norm, made.update.kept("float16"), made.update.kept("float32")) == (0.5, 0.125, None)
    assert found[3].update.sampled_as == "float16"
    assert sampled_updates(tree, "a").keys() == {"a-M1", "a-M2"}


def test_a_name_leaves_ancestors_and_descendants(tree: Connection) -> None:
    assert [entry.name for entry in lineage(tree, "a-M1")] == ["M0", "a-M1", "a-M2"]
    assert [entry.name for entry in lineage(tree, "b-M1")] == ["M0", "b-M1"]
    assert [entry.name for entry in ancestry(tree, "a-M1")] == ["M0", "a-M1"]
    with pytest.raises(NotFoundError, match="there is no model 'c'"):
        lineage(tree, "c")
