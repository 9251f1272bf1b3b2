"""The verification stage with the real verifier: what is written when, and computed how often."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.errors import DatabaseError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem
from hsstar.stages import verify
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import datasets, samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job, LeaseLostError
from hsstar.verifier import MathVerifier
from tests.store.factory import TRAIN, Drawn, add_iteration, add_job, add_run, add_samples, claim, state_of
from tests.store.threads import running
from tests.waiting import wait_for

ENDLESS = r"\sum_{n=1}^{10^9} n^n"
"""An answer that no deadline is long enough for."""

Pairs = list[tuple[str, str]]
"""Answers and reference answers: a problem with one sample each."""

MakeContext = Callable[..., AbstractContextManager[WorkerContext]]


def unwanted(*arguments: object) -> NoReturn:
    raise AssertionError("a verification needs the verifier and no other engine")


@pytest.fixture
def make_context(database: Database, tmp_path: Path) -> MakeContext:
    @contextmanager
    def make(processes: int = 1, deadline_seconds: float = 30.0) -> Iterator[WorkerContext]:
        engines = EnginePool(
            unwanted, unwanted, lambda: MathVerifier(processes, deadline_seconds=deadline_seconds), unwanted
        )
        try:
            yield WorkerContext(database, engines, 256, tmp_path)
        finally:
            engines.close()

    return make


@pytest.fixture
def context(make_context: MakeContext) -> Iterator[WorkerContext]:
    with make_context() as context:
        yield context


def algebraic(numbers: range) -> Pairs:
    """Correct answers that the text alone does not prove."""
    return [(f"x+{number}", f"{number}+x") for number in numbers]


def add_verification(database: Database, pairs: Pairs, dataset: str = TRAIN) -> Job:
    """A claimed job over one sample per pair; the samples' order is that of the pairs."""
    with database.begin() as connection:
        dataset_id = datasets.ensure_dataset(connection, dataset)
        given = [
            Problem(f"{dataset} problem {number}", reference) for number, (_, reference) in enumerate(pairs)
        ]
        datasets.add_problems(connection, dataset_id, given, [True] * len(given))
        by_key = datasets.problem_ids(connection, dataset_id, [problem.key for problem in given])
        ids = [by_key[problem.key] for problem in given]
        round_id = add_iteration(connection, add_run(connection), ids).id
        add_samples(
            connection,
            round_id,
            {
                problem_id: {0: Drawn(response=rf"So it is $\boxed{{{answer}}}$.")}
                for problem_id, (answer, _) in zip(ids, pairs, strict=True)
            },
        )
        job_id = add_job(connection, round_id, JobKind.VERIFY, {problem_id: [0] for problem_id in ids})
        return claim(connection, job_id)


def causes_of(database: Database, job: Job) -> list[str | None]:
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT cause FROM samples WHERE round_id = :round_id ORDER BY id"),
            {"round_id": job.round_id},
        )
        return list(rows.scalars())


def known_pairs(database: Database) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM known_verdicts")).scalar_one())


def checking_processes() -> set[psutil.Process]:
    return {
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE
        and "hsstar.verifier.process" in " ".join(process.cmdline())
    }


def test_every_sample_gets_its_cause(database: Database, context: WorkerContext) -> None:
    job = add_verification(
        database,
        [
            ("8", "8"),
            ("7", "8"),
            (r"\sqrt{4}", "2"),
            ("x+1", "x+2"),
            ("1+*2", "7"),
            ("7", "1+*2"),
            ("x+y", "y+x"),
            ("x + y", "y+x"),
        ],
    )
    problem_ids = verify.run(context, job)
    assert causes_of(database, job) == [
        "correct", "incorrect", "correct", "incorrect", "unparsable", "bad_reference", "correct", "correct",
    ]  # fmt: skip
    with database.begin() as connection:
        assert problem_ids == jobs.problem_ids(connection, job)
        assert state_of(connection, job.id) == "done"
        assert connection.execute(text("SELECT answer FROM samples ORDER BY id LIMIT 1")).scalar_one() == "8"
    assert known_pairs(database) == 5


def test_what_is_known_starts_no_checking_process(database: Database, make_context: MakeContext) -> None:
    pairs = [(r"\sqrt{4}", "2"), ("x+1", "x+2"), ("1+*2", "7"), ("7", "1+*2"), ("7", "7"), ("?", "7")]
    first, second = add_verification(database, pairs), add_verification(database, pairs)
    with make_context() as context:
        verify.run(context, first)
    assert len(set(causes_of(database, first))) == 4
    before = checking_processes()
    with make_context() as context:
        verify.run(context, second)
        assert checking_processes() == before
    assert causes_of(database, second) == causes_of(database, first)


def test_what_is_known_of_another_version_is_computed(database: Database, context: WorkerContext) -> None:
    first, second = (add_verification(database, [("x+1", "1+x")]) for _ in range(2))
    verify.run(context, first)
    with database.begin() as connection:
        connection.execute(text("UPDATE known_verdicts SET verifier_version = 'old', cause = 'incorrect'"))
    verify.run(context, second)
    assert causes_of(database, second) == ["correct"]
    assert known_pairs(database) == 2


def test_verdicts_are_written_while_a_slow_pair_is_being_checked(
    database: Database, make_context: MakeContext
) -> None:
    pairs = [(ENDLESS, "7"), ("7", "7"), *algebraic(range(100))]
    job = add_verification(database, pairs)
    with (
        make_context(processes=2, deadline_seconds=40.0) as context,
        running(verify.run, context, job) as errors,
    ):
        wait_for(lambda: causes_of(database, job).count("correct") > 60)
        assert causes_of(database, job)[0] is None
    assert errors == []
    assert causes_of(database, job) == ["timed_out", *["correct"] * 101]
    assert known_pairs(database) == 100


def test_the_next_attempt_goes_on_where_the_last_one_ended(
    database: Database, make_context: MakeContext
) -> None:
    job = add_verification(database, [(ENDLESS, "7"), ("7", "7"), *algebraic(range(100))])
    with (
        make_context(processes=2, deadline_seconds=90.0) as context,
        running(verify.run, context, job) as errors,
    ):
        wait_for(lambda: causes_of(database, job).count("correct") > 60)
        context.engines.close()
    assert [type(error) for error in errors] == [ComputeError]
    with database.begin() as connection:
        jobs.record_failure(connection, job, "closed", "", 3, divisible=True)
        job = claim(connection, job.id)
        left = len(samples.load_unverified(connection, job))
    assert left < 42
    with make_context(processes=2, deadline_seconds=1.0) as context:
        assert len(verify.run(context, job)) == 102
    assert causes_of(database, job) == ["timed_out", *["correct"] * 101]


def test_without_the_lease_nothing_is_written(database: Database, context: WorkerContext) -> None:
    job = add_verification(database, [("7", "7"), ("x+1", "1+x")])
    with database.begin() as connection:
        jobs.release(connection, job)
    with pytest.raises(LeaseLostError):
        verify.run(context, job)
    assert causes_of(database, job) == [None, None]


def test_a_lease_lost_on_the_way_ends_the_writing(database: Database, make_context: MakeContext) -> None:
    job = add_verification(database, [(ENDLESS, "7"), ("7", "7")])
    with make_context(deadline_seconds=2.0) as context, running(verify.run, context, job) as errors:
        wait_for(lambda: causes_of(database, job)[1] is not None)
        with database.begin() as connection:
            jobs.release(connection, job)
            claim(connection, job.id, "next")
    assert [type(error) for error in errors] == [LeaseLostError]
    assert causes_of(database, job) == [None, "correct"]
    with database.begin() as connection:
        assert state_of(connection, job.id) == "running"


def test_failures_of_the_database_are_not_blamed_on_the_samples(
    database: Database, context: WorkerContext
) -> None:
    job = add_verification(database, [("7", "7"), ("x+1", "1+x")])
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE known_verdicts ADD CHECK (false)"))
    with pytest.raises(DatabaseError):
        verify.run(context, job)
    assert causes_of(database, job) == ["correct", None]
