"""Rows for tests: problems, runs, rounds, samples and jobs in any state, written in a few statements."""

import itertools
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.lifecycle import IterationState, JobKind, JobState, next_state
from hsstar.domain.problems import Problem
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.engines.sampling.contract import FinishReason
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import allocation, counts, datasets, evaluations, models, rewards, rounds, runs, samples
from hsstar.store.database import Database
from hsstar.store.evaluations import EvaluationSpec
from hsstar.store.queue import jobs, workers
from hsstar.store.read.sql import querying
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

_runs = itertools.count()

TRAIN, HELDOUT = "train", "heldout"


@dataclass(frozen=True)
class Drawn:
    """A sample as a test states it; None where verifier or reward model have not looked yet."""

    cause: Cause | None = None
    reward: float | None = None
    response: str = "one step\n\n\\boxed{1}"
    tokens: int | None = 10
    finish_reason: FinishReason | None = None


def make_recipe(**sections: Any) -> Recipe:
    """A recipe with a reward model, where `sections` say nothing else."""
    document: dict[str, Any] = {
        "name": "test",
        "problems": {"dataset": TRAIN, "per_iteration": 4},
        "policy": {"model": "M0"},
        "reward": {"model": "prm"},
        "difficulty": {"tau_low": 0.25, "tau_high": 0.75},
    }
    return parse_recipe(document | sections, "test recipe")


def add_problems(connection: Connection, count: int, dataset: str = TRAIN) -> list[int]:
    """The ids of `count` problems of a dataset, in a fixed order."""
    given = [Problem(f"{dataset} problem {number}", str(number)) for number in range(count)]
    dataset_id = datasets.ensure_dataset(connection, dataset)
    datasets.add_problems(connection, dataset_id, given, [True] * count)
    ids = datasets.problem_ids(connection, dataset_id, [problem.key for problem in given])
    return [ids[problem.key] for problem in given]


def keys_of(connection: Connection, problem_ids: Sequence[int]) -> dict[int, str]:
    """Problem keys by id."""
    query = "SELECT id, key FROM problems WHERE id = ANY (:ids)"
    return dict(select(connection, query, ids=list(problem_ids)))


def add_run(
    connection: Connection,
    recipe: Recipe | None = None,
    name: str | None = None,
    checkpoint: Path | None = None,
) -> Run:
    """A run of a recipe, with the models that it names; `checkpoint` is the folder of both, if one exists."""
    recipe = recipe or make_recipe()
    policy, reward = ("/models/m0", "weights of M0"), ("/models/prm", "weights of the reward model")
    if checkpoint is not None:
        policy = reward = (str(checkpoint), fingerprint(checkpoint))
    model = models.register_model(connection, recipe.policy.model, *policy)
    described = [
        (of.model if of.has_model else of.name, reward[0], "skywork", reward[1]) for of in recipe.scoring
    ]
    reward_model_ids = [models.register_reward_model(connection, *of).id for of in described]
    sources = [
        models.register_model(connection, of.model, of.model, _content(of.model)).id for of in recipe.sources
    ]
    name = name or f"run-{next(_runs)}"
    return runs.create_run(connection, name, recipe, model.id, reward_model_ids, sources)


def _content(location: str) -> str:
    return fingerprint(location) if Path(location).exists() else f"weights of {location}"


def reward_ids(connection: Connection, run: Run) -> tuple[int, ...]:
    """The reward models of a run, in the order of its recipe."""
    return tuple(reward.reward_model_id for reward in rewards.list_of_run(connection, run.id))


def write_rewards(connection: Connection, run: Run, given: Sequence[rewards.SampleReward]) -> None:
    """What the first reward model of a run gives, and what the samples come to with it."""
    rewards.write(connection, reward_ids(connection, run)[0], given)
    rewards.combine(connection, run.id, "w", [reward.sample_id for reward in given])


def add_iteration(
    connection: Connection, run: Run, problem_ids: Sequence[int], number: int = 0, model_id: int | None = None
) -> Round:
    """An iteration in pre-sampling over these problems; without a model it samples from the run's first."""
    rounds.add_iterations(connection, run, [number])
    round_id = rounds.list_iterations(connection, run.id)[-1].round.id
    budget = run.recipe.sampling.budget
    rounds.assign_problems(connection, round_id, problem_ids, budget.pre_samples)
    rounds.begin_iteration(connection, round_id, model_id or run.model_id, budget.per_problem)
    return rounds.get_round(connection, round_id)


def add_round(connection: Connection, count: int = 0) -> tuple[int, list[int]]:
    """An iteration of a run of its own over the first problems of `TRAIN`: its id and theirs."""
    ids = add_problems(connection, count)
    return add_iteration(connection, add_run(connection), ids).id, ids


def add_evaluation(
    connection: Connection,
    run: Run,
    key: str = "key",
    number: int = 0,
    model_id: int | None = None,
    accuracy: float | None = None,
) -> int:
    """The id of an evaluation, by default of a run's first policy; with an accuracy it has ended."""
    spec = EvaluationSpec(key, datasets.ensure_dataset(connection, TRAIN), 1, None)
    added = evaluations.add_evaluation(connection, run.id, number, model_id or run.model_id, spec)
    if accuracy is not None:
        change = "UPDATE evaluations SET accuracy = :accuracy, standard_error = :error, finished_at = now()"
        execute(
            connection, f"{change} WHERE round_id = :id", id=added.id, accuracy=accuracy, error=accuracy / 8
        )
    return added.id


def add_samples(
    connection: Connection, round_id: int, drawn: Mapping[int, Mapping[int, Drawn]], worker: str = "w"
) -> None:
    """Samples by problem id and slot, with their verdicts and minimum rewards."""
    flat = [(problem, slot, of) for problem, slots in drawn.items() for slot, of in slots.items()]
    written = [
        samples.DrawnSample(problem, slot, of.response, None, of.tokens, of.finish_reason)
        for problem, slot, of in flat
    ]
    samples.write_samples(connection, round_id, None, worker, written)
    judged = [
        (problem, slot, of.cause and VERDICT_OF_CAUSE[of.cause], of.cause, of.reward)
        for problem, slot, of in flat
    ]
    change = """
        UPDATE samples
        SET verdict = judged->>2, cause = judged->>3, min_reward = CAST(judged->>4 AS double precision)
        FROM jsonb_array_elements(CAST(:judged AS jsonb)) AS judged
        WHERE round_id = :id AND (problem_id, slot) = (CAST(judged->>0 AS bigint), CAST(judged->>1 AS int))
    """
    execute(connection, change, id=round_id, judged=json.dumps(judged))
    counts.recount(connection, [round_id])


def add_labels(connection: Connection, round_id: int, levels: Mapping[int, str | None]) -> None:
    """Difficulty labels by problem id; None for a problem without one."""
    labelled = {problem: level for problem, level in levels.items() if level is not None}
    insert = """
        INSERT INTO difficulty_labels (round_id, problem_id, level, accuracy)
        SELECT :id, *, 0 FROM unnest(CAST(:problems AS bigint[]), CAST(:levels AS text[]))
    """
    execute(connection, insert, id=round_id, problems=list(labelled), levels=list(labelled.values()))


def allot_budget(connection: Connection, run: Run, iteration: Round, at_once: int = 7) -> None:
    """Give away what the next wave has, in batches of problems."""
    wave = allocation.decided_waves(connection, iteration)
    assert allocation.open_wave(connection, run, iteration, wave)
    ids = rounds.problems_of(connection, iteration.id)
    batches = [ids[start : start + at_once] for start in range(0, len(ids), at_once)]
    for batch in batches:
        allocation.record_states(connection, iteration, wave, batch)
    decision = allocation.decide(connection, run, iteration, wave)
    for batch in batches:
        allocation.give(connection, run, iteration, decision, batch)
    allocation.close(connection, iteration, wave)


def add_job(
    connection: Connection,
    round_id: int,
    kind: JobKind = JobKind.SAMPLE,
    items: Mapping[int, Sequence[int]] | None = None,
    state: JobState = JobState.QUEUED,
) -> int:
    """A job over slots by problem id, in any state."""
    insert = """
        INSERT INTO jobs (round_id, kind, state, lease_token, lease_expires_at, finished_at, error)
        SELECT :round_id, :kind, CAST(:state AS text),
            CASE WHEN :state = 'running' THEN gen_random_uuid() END,
            CASE WHEN :state = 'running' THEN now() + interval '1 hour' END,
            CASE WHEN :state IN ('done', 'failed', 'discarded') THEN now() END,
            CASE WHEN :state IN ('failed', 'discarded') THEN 'it broke' END
        RETURNING id
    """
    ((job_id,),) = select(connection, insert, round_id=round_id, kind=kind, state=state)
    for problem_id, slots in (items or {}).items():
        insert = "INSERT INTO job_items (job_id, problem_id, slots) VALUES (:job, :problem, :slots)"
        execute(connection, insert, job=job_id, problem=problem_id, slots=list(slots))
    return int(job_id)


def items_of(connection: Connection, job_id: int) -> list[tuple[int, int]]:
    """The (problem id, slot) addresses that a job holds, in order."""
    query = "SELECT problem_id, unnest(slots) AS slot FROM job_items WHERE job_id = :id ORDER BY 1, 2"
    return select(connection, query, id=job_id)


def claim(connection: Connection, job_id: int, worker: str = "w", lease_seconds: float = 60) -> jobs.Job:
    """A job that has to be there to be taken, once its delay is over."""
    change_jobs(connection, "available_at = now()", job_id)
    job = jobs.claim(connection, job_id, worker, lease_seconds)
    assert job is not None
    return job


def state_of(connection: Connection, job_id: int) -> str:
    """The state of a job."""
    return str(connection.scalar(text("SELECT state FROM jobs WHERE id = :id"), {"id": job_id}))


def select(connection: Connection, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return [tuple(row) for row in connection.execute(text(query), parameters)]


def execute(connection: Connection, statement: str, **parameters: Any) -> None:
    """Run a statement, whatever it returns."""
    connection.execute(text(statement), parameters)


def change_jobs(connection: Connection, change: str, *job_ids: int) -> None:
    """Change columns of these jobs, or of all."""
    those = "id = ANY (:ids) OR cardinality(CAST(:ids AS bigint[])) = 0"
    execute(connection, f"UPDATE jobs SET {change} WHERE {those}", ids=list(job_ids))


def run_query(database: Database, query: str, timeout: int) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a user's query."""
    with querying(database, query, timeout) as (columns, rows):
        return columns, list(rows)


def add_worker(
    connection: Connection,
    name: str,
    role: str = "sample",
    *,
    host: str = "host",
    process: int = 1,
    space: str = "space",
    gpu: str | None = None,
    version: str | None = None,
) -> workers.Identity:
    """The row of a worker that has just started."""
    identity = workers.Identity(name, uuid.uuid4(), host, process, space)
    workers.register(connection, identity, role, gpu, version)
    return identity


def beat(
    connection: Connection, worker: workers.Identity, lease: float = 60.0, **work: Any
) -> workers.Orders:
    """A heartbeat of a worker without jobs, where `work` says nothing else."""
    nothing: dict[str, Any] = {"busy": False, "jobs_done": 0, "tokens_done": 0, "may_sweep": False}
    nothing |= {"jobs": (), "still": (), "takes": ()}
    return workers.beat(connection, worker, workers.Work(**nothing | work), lease)


def set_state(
    connection: Connection, round_id: int, state: IterationState, output_model_id: int | None = None
) -> None:
    """Say that an iteration has a state, whatever it was."""
    execute(
        connection,
        "UPDATE iterations SET state = 'waiting', finished_at = NULL WHERE round_id = :id",
        id=round_id,
    )
    before = IterationState.WAITING
    while before is not state:
        assert rounds.leave_state(connection, round_id, before, output_model_id)
        before = next_state(before)
