"""The sampling stage: what is drawn and how, what is written when, and by which policy."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.benchmarks import Decoding
from hsstar.domain.errors import EngineDeadError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.seeds import evaluation_seed, slot_seed
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.sampling.contract import Sampler, SampleRequest, SamplingParameters
from hsstar.recipe.recipe import Recipe
from hsstar.stages import sample
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.store import datasets, evaluations, models, rounds, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs, workers
from hsstar.store.queue.jobs import Job, LeaseLostError
from tests.store import drawing, noting
from tests.store.drawing import add_sampling, misattributed, responses
from tests.store.factory import (
    HELDOUT,
    Drawn,
    add_iteration,
    add_problems,
    add_run,
    add_samples,
    claim,
    items_of,
    make_recipe,
    select,
    state_of,
)
from tests.store.noting import NotingSampler, completion_of
from tests.store.threads import running
from tests.waiting import wait_for


@pytest.fixture
def job_of_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A claimed job of 96 samples; 64 of them, or a tenth of a second, are worth a transaction."""
    monkeypatch.setattr(drawing, "JOB_SAMPLES", 96)
    monkeypatch.setattr(sample, "BATCH_SAMPLES", 64)
    monkeypatch.setattr(sample, "_BATCH_SECONDS", 0.1)
    _, (job_id,) = add_sampling(database, "many", Path(noting.POLICY), 12, 8)
    return claimed(database, job_id)


def context_of(database: Database, sampler: Sampler) -> WorkerContext:
    return noting.make_context(database, sampler=lambda folder, recipe: sampler)


def claimed(database: Database, job_id: int, worker: str = "w") -> Job:
    with database.begin() as connection:
        return claim(connection, job_id, worker)


def count(database: Database, round_id: int) -> int:
    return len(responses(database, round_id))


Result = TypeVar("Result")


@dataclass(frozen=True)
class Expected:
    """A round, and how its samples have to be drawn."""

    round_id: int
    parameters: SamplingParameters
    seed_of: Callable[[str, int], int]
    follow_ups: Collection[JobKind]


def add_rounds(connection: Connection, policy: Path, prompt: str) -> tuple[models.Model, list[Expected]]:
    """An iteration and an evaluation of a policy that is not the run's first one; each with six problems."""
    recipe = make_recipe(
        seed=77,
        policy={"model": "M0", "prompt": prompt},
        sampling={
            "n": 2,
            "n_p": 2,
            "temperature": 0.3,
            "top_p": 0.7,
            "max_new_tokens": 41,
            "stop": ["§", "#"],
        },
    )
    run = add_run(connection, recipe)
    sampled = models.register_model(connection, "M3", str(policy), fingerprint(policy))
    iteration = add_iteration(connection, run, add_problems(connection, 6), 3, sampled.id)
    decoding = Decoding(temperature=0.2, top_p=0.6, samples=2, max_new_tokens=23)
    dataset = datasets.ensure_dataset(connection, HELDOUT)
    spec = evaluations.EvaluationSpec("heldout", dataset, 2, decoding)
    evaluation = evaluations.add_evaluation(connection, run.id, 5, sampled.id, spec)
    rounds.assign_problems(connection, evaluation.id, add_problems(connection, 6, HELDOUT), 2)
    return sampled, [
        Expected(
            iteration.id,
            SamplingParameters(0.3, 0.7, 41, ("§", "#")),
            partial(slot_seed, 77, 3),
            [JobKind.VERIFY, JobKind.SCORE],
        ),
        Expected(
            evaluation.id,
            SamplingParameters(0.2, 0.6, 23, ("§", "#")),
            partial(evaluation_seed, 77, 5),
            [JobKind.VERIFY],
        ),
    ]


@pytest.mark.parametrize("prompt", ["qwen25-step-cot", "chat"])
def test_every_slot_is_drawn_with_its_own_prompt_seed_and_circumstances(
    database: Database, tmp_path: Path, prompt: str
) -> None:
    policy = chat_policy(tmp_path)
    with database.begin() as connection:
        workers.register(connection, "w", "host", 1, "sample")
        sampled, expected = add_rounds(connection, policy, prompt)
        job_ids = [rounds.allocate(connection, of.round_id, JobKind.SAMPLE, 12, None)[0] for of in expected]
    render = prompt_renderer(prompt, policy)
    tokens = 0
    for of, job_id in zip(expected, job_ids, strict=True):
        engine = NotingSampler(policy)
        context = replace(context_of(database, engine), job_samples=5)
        problem_ids = sample.run(context, claimed(database, job_id))
        with database.begin() as connection:
            problems = connection.execute(
                text("SELECT id, key, statement FROM problems WHERE id = ANY (:ids)"), {"ids": problem_ids}
            ).all()
            rows = connection.execute(
                text("""
                    SELECT problem_id, slot, seed, response, tokens, finish_reason, cumulative_logprob,
                        milliseconds, engine, worker, model_id
                    FROM samples JOIN sample_responses ON sample_id = id WHERE round_id = :id
                """),
                {"id": of.round_id},
            ).all()
            jobs_after = connection.execute(
                text("SELECT kind, id FROM jobs WHERE round_id = :id AND kind <> 'sample' ORDER BY id"),
                {"id": of.round_id},
            ).all()
            items = [(row.kind, items_of(connection, row.id)) for row in jobs_after]
            assert state_of(connection, job_id) == "done"
        assert len(problem_ids) == 6
        wanted = {
            (problem.id, slot): SampleRequest(render(problem.statement), of.seed_of(problem.key, slot))
            for problem in problems
            for slot in range(2)
        }
        assert sorted(engine.requests, key=repr) == sorted(wanted.values(), key=repr)
        assert engine.parameters == [of.parameters]
        drawn = {address: completion_of(fingerprint(policy), request) for address, request in wanted.items()}
        assert {tuple(row[:2]): tuple(row[2:]) for row in rows} == {
            address: (wanted[address].seed, *asdict(found).values(), "noting 2", "w", sampled.id)
            for address, found in drawn.items()
        }
        addresses = sorted(wanted)
        assert items == [
            (kind, addresses[start : start + 5]) for kind in of.follow_ups for start in range(0, 12, 5)
        ]
        tokens += sum(row.tokens for row in rows)
    with database.begin() as connection:
        assert connection.scalar(text("SELECT tokens_done FROM workers")) == tokens


def chat_policy(folder: Path) -> Path:
    """The built-in policy with a chat template of its own."""
    policy = folder / "policy"
    shutil.copytree(resolve(noting.POLICY), policy)
    file = policy / "tokenizer_config.json"
    template = {"chat_template": "<user>{{ messages[0].content }}</user>"}
    file.write_text(json.dumps(json.loads(file.read_text()) | template))
    return policy


def test_a_job_enqueues_the_work_on_its_own_problems_only(database: Database) -> None:
    with database.begin() as connection:
        _, (iteration, _) = add_rounds(connection, resolve(noting.POLICY), "bare")
        first, *_ = rounds.allocate(connection, iteration.round_id, JobKind.SAMPLE, 4)
        others = connection.execute(
            text("SELECT problem_id FROM round_problems WHERE round_id = :id ORDER BY 1 OFFSET 2"),
            {"id": iteration.round_id},
        )
        add_samples(connection, iteration.round_id, {problem: {0: Drawn()} for problem in others.scalars()})
    sample.run(context_of(database, NotingSampler()), claimed(database, first))
    with database.begin() as connection:
        rows = connection.execute(text("SELECT id FROM jobs WHERE kind <> 'sample' ORDER BY id"))
        held = [items_of(connection, job_id) for job_id in rows.scalars()]
        assert held == [items_of(connection, first)] * 2


def test_follow_ups_are_enqueued_under_the_lock_of_the_run(database: Database, job_of_many: Job) -> None:
    """Two jobs over the same problems would else enqueue the same work."""
    query = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    def waits() -> bool:
        with database.begin() as connection:
            return bool(select(connection, query))

    with ExitStack() as stage, database.begin() as holder:
        lock_run(holder, rounds.get_round(holder, job_of_many.round_id).run_id)
        context = context_of(database, NotingSampler())
        errors = stage.enter_context(running(sample.run, context, job_of_many))
        wait_for(waits, 10)
        assert select(holder, "SELECT FROM jobs WHERE kind = 'verify'") == []
    assert errors == []
    with database.begin() as connection:
        assert select(connection, "SELECT kind FROM jobs ORDER BY id") == [("sample",), ("verify",)]


class WatchedDatabase(Database):
    """Tells when it has refused a write."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.refused = threading.Event()

    def run(self, work: Callable[[Connection], Result], *, single: bool = False) -> Result:
        try:
            return super().run(work, single=single)
        except LeaseLostError:
            self.refused.set()
            raise


def test_a_worker_without_its_lease_writes_nothing_more_and_only_the_rest_is_drawn_again(
    database: Database, job_of_many: Job
) -> None:
    watched = WatchedDatabase(database.url)
    gates = {80: threading.Event(), 90: threading.Event()}
    losing = NotingSampler(gates=gates)
    with running(sample.run, context_of(watched, losing), job_of_many) as errors:
        wait_for(lambda: count(database, job_of_many.round_id) == 80)
        with database.begin() as connection:
            jobs.reclaim(connection, "w", 3)
        gates[80].set()
        assert watched.refused.wait(60)
        gates[90].set()
    watched.close()
    assert [type(error) for error in errors] == [LeaseLostError]
    assert losing.abandoned
    written = responses(database, job_of_many.round_id)
    assert len(written) == 80

    following = NotingSampler()
    job = claimed(database, job_of_many.id, "next")
    sample.run(context_of(database, following), job)
    assert len(following.requests) == 16
    found = responses(database, job.round_id)
    assert len(found) == 96
    assert written.items() <= found.items()


def test_finished_samples_are_written_while_others_take_their_time(
    database: Database, job_of_many: Job
) -> None:
    gate = threading.Event()
    context = context_of(database, NotingSampler(gates={5: gate}))
    with running(sample.run, context, job_of_many) as errors:
        wait_for(lambda: count(database, job_of_many.round_id) == 5)
        gate.set()
    assert errors == []
    assert count(database, job_of_many.round_id) == 96


@pytest.mark.parametrize("failure", [ComputeError, EngineDeadError])
def test_what_was_finished_before_the_engine_failed_is_written(
    database: Database, job_of_many: Job, failure: type[Exception]
) -> None:
    class Failing(NotingSampler):
        def draw(self, *arguments: Any) -> drawing.Results:
            yield from itertools.islice(super().draw(*arguments), 70)
            raise EngineDeadError("gone") if failure is EngineDeadError else ValueError("poison")

    with pytest.raises(failure):
        sample.run(context_of(database, Failing()), job_of_many)
    assert count(database, job_of_many.round_id) == 70
    with database.begin() as connection:
        assert len(samples.load_missing_slots(connection, job_of_many)) == 26


def test_a_problem_that_no_sample_can_be_drawn_for_is_left_out(database: Database, job_of_many: Job) -> None:
    class Refusing(NotingSampler):
        def draw(self, *arguments: Any) -> drawing.Results:
            for index, result in super().draw(*arguments):
                yield index, "too long" if index < 8 else result

    sample.run(context_of(database, Refusing()), job_of_many)
    assert count(database, job_of_many.round_id) == 88
    with database.begin() as connection:
        first, *_ = jobs.problem_ids(connection, job_of_many)
        assert rounds.shortfall(connection, job_of_many.round_id).undrawn == 0
        excluded = connection.execute(
            text("SELECT problem_id, exclusion FROM round_problems WHERE exclusion IS NOT NULL")
        )
        assert [tuple(row) for row in excluded] == [(first, "too long")]


def test_jobs_of_two_policies_at_once_get_what_each_policy_draws(database: Database, tmp_path: Path) -> None:
    policies = [tmp_path / name for name in ("first", "second")]
    for policy in policies:
        shutil.copytree(resolve(noting.POLICY), policy)
        with (policy / "model.safetensors").open("ab") as weights:
            weights.write(policy.name.encode())
    together = [add_sampling(database, policy.name, policy, problems=8, slots=8) for policy in policies]
    built = []

    def build(folder: str, recipe: Recipe) -> Sampler:
        built.append(folder)
        return NotingSampler(folder, pause=0.001)

    context = noting.make_context(database, sampler=build)
    interleaved = [
        job_id for pair in zip(*(job_ids for _, job_ids in together), strict=True) for job_id in pair
    ]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda job_id: sample.run(context, claimed(database, job_id)), interleaved))

    for policy, (round_id, _) in zip(policies, together, strict=True):
        drawn = responses(database, round_id).values()
        assert len(drawn) == 64
        assert all(response.startswith(f"by {fingerprint(policy)}: ") for response in drawn)
    assert len(built) == 1  # the other policy's weights were put into its place
    assert misattributed(database) == 0
