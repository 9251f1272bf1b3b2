"""The sampling stage: what is drawn and how, what is written when, and by which policy."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.commands.redraw import redraw
from hsstar.domain.addresses import RoundAddress, SampleAddress
from hsstar.domain.errors import EngineDeadError
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.prompts import PromptFormat
from hsstar.domain.seeds import slot_seed
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.stages import sample
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.store import models, rounds, runs, samples
from hsstar.store.database import Database, try_lock_run
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job, LeaseLostError
from hsstar.store.read.samples import SampleFilter, sample_page
from tests.store import drawing, factory, noting
from tests.store.drawing import add_sampling, responses
from tests.store.driver import Result, call, rows
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
    return call(database, factory.claim, job_id)


def context_of(database: Database, sampler: Sampler) -> WorkerContext:
    return noting.make_context(database, sampler=lambda folder, recipe: sampler)


def count(database: Database, round_id: int) -> int:
    return len(responses(database, round_id))


def add_round(connection: Connection, policy: Path, prompt: str) -> tuple[int, int, list[int]]:
    """An iteration of a policy that is not the run's first one: the ids of policy, round and six problems."""
    decoding = {"temperature": 0.3, "top_p": 0.7, "max_new_tokens": 41, "stop": ["§", "#"]}
    section = {"model": "M0", "prompt": prompt}
    recipe = factory.make_recipe(seed=77, policy=section, sampling={"n": 2, "n_p": 2} | decoding)
    run = factory.add_run(connection, recipe)
    sampled = models.register_model(connection, "M3", str(policy), fingerprint(policy))
    problems = factory.add_problems(connection, 6)
    return sampled.id, factory.add_iteration(connection, run, problems, 3, sampled.id).id, problems


def follow_ups(connection: Connection) -> list[tuple[str, list[tuple[int, int]]]]:
    """Kinds and items of the jobs after sampling."""
    found = factory.select(connection, "SELECT kind, id FROM jobs WHERE kind <> 'sample' ORDER BY id")
    return [(kind, factory.items_of(connection, job_id)) for kind, job_id in found]


@pytest.mark.parametrize("prompt", ["qwen25-step-cot", "chat"])
def test_every_slot_is_drawn_with_its_own_prompt_seed_and_circumstances(
    database: Database, tmp_path: Path, prompt: str
) -> None:
    policy = chat_policy(tmp_path)
    call(database, factory.add_worker, "w")
    sampled, round_id, problem_ids = call(database, add_round, policy, prompt)
    (job_id,) = call(database, rounds.allocate, round_id, JobKind.SAMPLE, 12)
    engine = NotingSampler(policy)
    context = replace(context_of(database, engine), job_samples=5)
    assert sample.run(context, call(database, factory.claim, job_id)) == problem_ids
    render = prompt_renderer(PromptFormat(prompt), policy)
    wanted = {
        (problem.id, slot): SampleRequest(render(problem.statement), slot_seed(77, 3, problem.key, slot))
        for problem in rows(database, "SELECT id, key, statement FROM problems ORDER BY id")
        for slot in range(2)
    }
    assert engine.requests == list(wanted.values())
    assert engine.parameters == [SamplingParameters(0.3, 0.7, 41, ("§", "#"))]
    drawn = [completion_of(fingerprint(policy), request) for request in wanted.values()]
    columns = "response, tokens, finish_reason, cumulative_logprob, milliseconds, engine, worker, model_id"
    written = rows(
        database,
        f"SELECT problem_id, slot, seed, {columns} FROM samples "
        "JOIN sample_responses ON sample_id = id ORDER BY 1, 2",
    )
    assert written == [
        (*address, request.seed, *asdict(completion).values(), "noting 2", "w", sampled)
        for (address, request), completion in zip(wanted.items(), drawn, strict=True)
    ]
    assert call(database, factory.state_of, job_id) == "done"
    assert call(database, follow_ups) == [
        (kind, list(wanted)[start : start + 5]) for kind in ("verify", "score") for start in (0, 5, 10)
    ]
    assert context.progress.tokens == sum(completion.tokens for completion in drawn)


class HeatedSampler(NotingSampler):
    """Its texts say the temperature."""

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        for index, result in super().draw(requests, parameters):
            assert isinstance(result, Completion)
            yield index, replace(result, text=f"{result.text} at {parameters.temperature}")


def test_each_wave_is_drawn_at_its_temperature_and_drawn_again_at_the_same(database: Database) -> None:
    def add(connection: Connection) -> tuple[str, int]:
        recipe = factory.make_recipe(
            sampling={"n": 3, "n_p": 1, "wave_temperatures": [3.0, 1.5]},
            allocation={"policy": "uniform", "waves": 2},
        )
        run = factory.add_run(connection, recipe, checkpoint=Path(resolve(noting.POLICY)))
        iteration = factory.add_iteration(connection, run, factory.add_problems(connection, 4))
        factory.allot_budget(connection, run, iteration)
        rounds.leave_state(connection, iteration.id, IterationState.PRE_SAMPLING)
        factory.allot_budget(connection, run, iteration)
        return run.name, iteration.id

    call(database, factory.add_worker, "w")
    name, round_id = call(database, add)
    (job_id,) = call(database, rounds.allocate, round_id, JobKind.SAMPLE, 12)
    engine = HeatedSampler()
    sample.run(context_of(database, engine), call(database, factory.claim, job_id))
    assert [parameters.temperature for parameters in engine.parameters] == [0.7, 3.0, 1.5]
    assert len({request.seed for request in engine.requests}) == 12
    with database.begin() as connection:
        drawn = sample_page(connection, runs.find_run(connection, name).id, SampleFilter())
    assert len(drawn) == 12
    for one in drawn:
        address = SampleAddress(RoundAddress(name, "iteration", 0), one.problem_id, one.slot)
        assert one.response is not None and one.response.endswith(f" at {[0.7, 3.0, 1.5][one.slot]}")
        assert redraw(database, address, one, lambda *_: HeatedSampler()).same


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
        _, round_id, problems = add_round(connection, resolve(noting.POLICY), "bare")
        first, *_ = rounds.allocate(connection, round_id, JobKind.SAMPLE, 4)
        factory.add_samples(connection, round_id, {problem: {0: factory.Drawn()} for problem in problems[2:]})
    sample.run(context_of(database, NotingSampler()), call(database, factory.claim, first))
    items = call(database, factory.items_of, first)
    assert call(database, follow_ups) == [("verify", items), ("score", items)]


@pytest.mark.parametrize(("shared", "kinds"), [(True, ["verify"]), (False, [])])
def test_a_job_waits_for_no_lock_of_its_run_and_leaves_the_follow_ups_to_whoever_advances_it(
    database: Database, job_of_many: Job, shared: bool, kinds: list[str]
) -> None:
    """Other jobs hold the lock shared while they enqueue theirs."""
    with database.begin() as holder:
        run_id = rounds.get_round(holder, job_of_many.round_id).run_id
        assert try_lock_run(holder, run_id, shared=shared)
        sample.run(context_of(database, NotingSampler()), job_of_many)
    assert [kind for kind, _ in call(database, follow_ups)] == kinds


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
        # a full batch, and one that is old while the next sample takes its time
        wait_for(lambda: count(database, job_of_many.round_id) == 80)
        call(database, jobs.reclaim_of, "w", 3)
        gates[80].set()
        assert watched.refused.wait(60)
        gates[90].set()
    watched.close()
    assert [type(error) for error in errors] == [LeaseLostError]
    assert losing.abandoned
    written = responses(database, job_of_many.round_id)
    assert len(written) == 80
    following = NotingSampler()
    sample.run(context_of(database, following), call(database, factory.claim, job_of_many.id, "next"))
    assert len(following.requests) == 16
    found = responses(database, job_of_many.round_id)
    assert len(found) == 96
    assert written.items() <= found.items()


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
    assert len(call(database, samples.load_missing_slots, job_of_many)) == 26


def test_a_problem_that_no_sample_can_be_drawn_for_is_left_out(database: Database, job_of_many: Job) -> None:
    class Refusing(NotingSampler):
        def draw(self, *arguments: Any) -> drawing.Results:
            for index, result in super().draw(*arguments):
                yield index, "too long" if index < 8 else result

    first, *_ = sample.run(context_of(database, Refusing()), job_of_many)
    assert count(database, job_of_many.round_id) == 88
    assert call(database, rounds.shortfall, job_of_many.round_id, range(100)).undrawn == 0
    query = "SELECT problem_id, exclusion FROM round_problems WHERE exclusion IS NOT NULL"
    assert rows(database, query) == [(first, "too long")]
