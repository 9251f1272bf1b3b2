"""The sampling stage with real tiny policies: what is written when, and by which policy."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from hsstar.domain.errors import EngineDeadError
from hsstar.engines.sampling.contract import Sampler
from hsstar.recipe.recipe import Recipe
from hsstar.stages import sample
from hsstar.stages.context import ComputeError
from hsstar.store import rounds, samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job, LeaseLostError
from tests.engines import tiny
from tests.store import drawing
from tests.store.drawing import (
    FragileSampler,
    add_sampling,
    make_context,
    misattributed,
    responses,
)
from tests.store.factory import claim, items_of, state_of
from tests.store.sampling_process import SmallBatches
from tests.store.threads import running
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny.tiny_policy(tmp_path_factory.mktemp("policy"), seed=seed) for seed in range(2)]


@pytest.fixture
def job_of_many(database: Database, policies: list[Path], monkeypatch: pytest.MonkeyPatch) -> Job:
    """A claimed job of 96 samples, of which 64 are worth a transaction."""
    monkeypatch.setattr(drawing, "JOB_SAMPLES", 96)
    monkeypatch.setattr(sample, "BATCH_SAMPLES", 64)
    _, (job_id,) = add_sampling(database, "many", policies[0], 12, 8, max_new_tokens=200)
    return claimed(database, job_id)


def claimed(database: Database, job_id: int, worker: str = "w") -> Job:
    with database.begin() as connection:
        return claim(connection, job_id, worker)


def count(database: Database, round_id: int) -> int:
    return len(responses(database, round_id))


def test_every_slot_is_drawn_with_its_circumstances(database: Database, job_of_many: Job) -> None:
    engine = FragileSampler()
    problem_ids = sample.run(make_context(database, lambda folder, recipe: engine), job_of_many)

    with database.begin() as connection:
        assert state_of(connection, job_of_many.id) == "done"
        assert problem_ids == jobs.problem_ids(connection, job_of_many)
        rows = connection.execute(
            text("""
                SELECT response, seed, tokens, finish_reason, cumulative_logprob, engine, milliseconds, worker
                FROM samples JOIN sample_responses ON sample_id = id
            """)
        ).all()
        verification = connection.execute(text("SELECT id FROM jobs WHERE kind = 'verify'")).scalars().all()
        held = [address for job_id in verification for address in items_of(connection, job_id)]
    assert len({row.seed for row in rows}) == len(rows) == 96
    for row in rows:
        assert tuple(row) == (str(row.seed), row.seed, 3, "stop", -1.0, "fragile 1.0", 1.0, "w")
    assert sorted(held) == sorted(responses(database, job_of_many.round_id))


def test_what_a_killed_worker_has_written_stays_and_only_the_rest_is_drawn_again(
    database: Database, policies: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = 2 * sample.BATCH_SAMPLES
    monkeypatch.setattr(drawing, "JOB_SAMPLES", wanted)
    round_id, (job_id,) = add_sampling(database, "killed", policies[0], wanted // 8, 8, max_new_tokens=60)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.sampling_process", database.url, str(job_id)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(lambda: count(database, round_id) > 0)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    written = responses(database, round_id)
    assert 0 < len(written) < wanted

    with database.begin() as connection:
        jobs.reclaim(connection, "killed", 3)
    engine = SmallBatches(policies[0])
    sample.run(make_context(database, lambda folder, recipe: engine), claimed(database, job_id))
    assert engine.asked == [wanted - len(written)]
    found = responses(database, round_id)
    assert written.items() <= found.items()

    undisturbed_round, (undisturbed,) = add_sampling(database, "undisturbed", policies[0], wanted // 8, 8, 60)
    sample.run(make_context(database, lambda folder, recipe: engine), claimed(database, undisturbed))
    assert responses(database, undisturbed_round) == found


def test_finished_samples_are_written_while_others_take_their_time(
    database: Database, job_of_many: Job
) -> None:
    engine = FragileSampler(stalls_after=5)
    context = make_context(database, lambda folder, recipe: engine)
    with running(sample.run, context, job_of_many) as errors:
        wait_for(lambda: count(database, job_of_many.round_id) == 5)
        engine.released.set()
    assert errors == []
    assert count(database, job_of_many.round_id) == 96


@pytest.mark.parametrize("failure", [ComputeError, EngineDeadError])
def test_what_was_finished_before_the_engine_failed_is_written(
    database: Database, job_of_many: Job, failure: type[Exception]
) -> None:
    class Failing(FragileSampler):
        def draw(self, *arguments: object) -> drawing.Results:
            for number, result in enumerate(super().draw(*arguments)):  # type: ignore[arg-type]
                if number == 70:
                    raise EngineDeadError("gone") if failure is EngineDeadError else ValueError("poison")
                yield result

    with pytest.raises(failure):
        sample.run(make_context(database, lambda folder, recipe: Failing()), job_of_many)
    assert count(database, job_of_many.round_id) == 70
    with database.begin() as connection:
        assert len(samples.load_missing_slots(connection, job_of_many)) == 26


def test_without_the_lease_nothing_is_written_and_the_draw_is_abandoned(
    database: Database, job_of_many: Job
) -> None:
    engine = FragileSampler(stalls_after=80)
    with running(sample.run, make_context(database, lambda folder, recipe: engine), job_of_many) as errors:
        wait_for(lambda: count(database, job_of_many.round_id) == 64)
        with database.begin() as connection:
            jobs.release(connection, job_of_many)
        claimed(database, job_of_many.id, "next")
        time.sleep(2.5)  # the old batch is due, and refused
        engine.released.set()
    assert [type(error) for error in errors] == [LeaseLostError]
    assert engine.abandoned
    assert count(database, job_of_many.round_id) == 64
    with database.begin() as connection:
        assert state_of(connection, job_of_many.id) == "running"


def test_a_problem_that_no_sample_can_be_drawn_for_is_left_out(database: Database, job_of_many: Job) -> None:
    class Refusing(FragileSampler):
        def draw(self, *arguments: object) -> drawing.Results:
            for index, result in super().draw(*arguments):  # type: ignore[arg-type]
                yield index, "too long" if index < 8 else result

    sample.run(make_context(database, lambda folder, recipe: Refusing()), job_of_many)
    assert count(database, job_of_many.round_id) == 88
    with database.begin() as connection:
        assert rounds.shortfall(connection, job_of_many.round_id).undrawn == 0
        assert (
            connection.execute(text("SELECT exclusion FROM round_problems")).scalars().all().count("too long")
            == 1
        )


def test_jobs_of_two_policies_at_once_get_what_each_policy_draws_alone(
    database: Database, policies: list[Path]
) -> None:
    alone, built = [], []
    for number, policy in enumerate(policies):
        round_id, job_ids = add_sampling(database, f"alone-{number}", policy, 8, 8)
        context = make_context(database, lambda folder, recipe: SmallBatches(folder))
        for job_id in job_ids:
            sample.run(context, claimed(database, job_id))
        alone.append(responses(database, round_id))
    assert alone[0].keys() == alone[1].keys()
    assert all(alone[0][address] != alone[1][address] for address in alone[0])

    def build(folder: str, recipe: Recipe) -> Sampler:
        built.append(folder)
        return SmallBatches(folder)

    together = [add_sampling(database, f"together-{n}", policy, 8, 8) for n, policy in enumerate(policies)]
    interleaved = [
        job_id for pair in zip(*(job_ids for _, job_ids in together), strict=True) for job_id in pair
    ]
    context = make_context(database, build)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda job_id: sample.run(context, claimed(database, job_id)), interleaved))

    assert [responses(database, round_id) for round_id, _ in together] == alone
    assert len(built) == 1  # the other policy's weights were put into its place
    assert misattributed(database) == 0
