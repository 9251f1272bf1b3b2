"""The verification stage with the real verifier: what is written when, and computed how often."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.errors import DatabaseError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem
from hsstar.domain.verdict import Cause
from hsstar.engines.sampling.contract import FinishReason
from hsstar.stages import verify
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.stages.vote import vote
from hsstar.store import datasets
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job, LeaseLostError
from hsstar.store.votes import Ballot
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from tests.store import noting
from tests.store.factory import TRAIN, Drawn, add_iteration, add_job, add_run, add_samples, claim, state_of
from tests.store.threads import running
from tests.waiting import wait_for

Pairs = list[tuple[str, str]]
"""Answers and reference answers: a problem with one sample each."""

MakeContext = Callable[..., AbstractContextManager[WorkerContext]]


class StallingVerifier(MathVerifier):
    """The real one; after so many decisions it waits to be released, and fails then if it is told to."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__(1)
        self.after = after
        self.released = threading.Event()
        self.fails_with: Exception | None = None
        self.prepared = self.asked = 0

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        self.prepared += len(requests)
        return super().prepare(requests)

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, Cause]]:
        self.asked += len(pairs)
        for number, decision in enumerate(super().decide(pairs)):
            if number == self.after:
                self.released.wait()
                if self.fails_with is not None:
                    raise self.fails_with
            yield decision


@pytest.fixture
def make_context(database: Database) -> MakeContext:
    @contextmanager
    def make(verifier: MathVerifier | None = None) -> Iterator[WorkerContext]:
        context = noting.make_context(database, verifier=lambda: verifier or MathVerifier(1))
        try:
            yield context
        finally:
            context.engines.close()

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


def test_the_last_number_of_a_cut_response_is_no_answer_and_a_box_is_one(
    database: Database, context: WorkerContext
) -> None:
    drawn: list[tuple[str, FinishReason | None, str]] = [
        ("So it is 7", "stop", "correct"),
        ("So it is 7", "length", "no_answer"),
        ("So it is 7", None, "correct"),
        (r"So it is $\boxed{7}$, since 8", "length", "correct"),
        (r"So it is $\boxed{8}$, since 7", "stop", "incorrect"),
    ]
    job = add_verification(database, [("7", "7")])
    with database.begin() as connection:
        (problem,) = jobs.problem_ids(connection, job)
        further = {
            slot: Drawn(response=response, finish_reason=reason)
            for slot, (response, reason, _) in enumerate(drawn, 1)
        }
        add_samples(connection, job.round_id, {problem: further})
        jobs.complete(connection, job)
        job = claim(connection, add_job(connection, job.round_id, JobKind.VERIFY, {problem: [0, *further]}))
    verify.run(context, job)
    assert causes_of(database, job) == ["correct", *(cause for _, _, cause in drawn)]


def test_wrong_answers_that_are_equivalent_vote_as_one() -> None:
    """Answers as such: as a whole response, none of these would say more than its last number."""
    with MathVerifier(1) as verifier:
        ballots: dict[int, Ballot] = {
            1: [("2", True), ("x+1", False), ("1+x", False)],
            2: [("2", True), ("x+1", False), ("x+3", False)],
            3: [("x+1", False), (None, False), ("2", True)],
            4: [(None, False), ("2", True)],
        }
        assert vote(ballots, verifier) == {1: False, 2: True, 3: False, 4: True}


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


def test_verdicts_are_written_while_others_are_being_checked_and_not_computed_again(
    database: Database, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_BATCH_PAIRS", 4)
    monkeypatch.setattr(verify, "_BATCH_SECONDS", 0.05)
    job = add_verification(database, [*algebraic(range(12)), ("7", "7")])
    stalling = StallingVerifier(after=10)
    with make_context(stalling) as context, running(verify.run, context, job) as errors:
        wait_for(lambda: known_pairs(database) == 10)
        assert sorted(causes_of(database, job), key=str) == [None, None, *["correct"] * 11]
        stalling.fails_with = RuntimeError("closed")
        stalling.released.set()
    assert [type(error) for error in errors] == [ComputeError]
    with database.begin() as connection:
        jobs.record_failure(connection, job, "closed", "", 3, divisible=True)
        job = claim(connection, job.id)
    following = StallingVerifier()
    with make_context(following) as context:
        assert len(verify.run(context, job)) == 13
    assert (following.prepared, following.asked) == (2, 2)
    assert causes_of(database, job) == ["correct"] * 13


def test_without_the_lease_nothing_is_written(database: Database, context: WorkerContext) -> None:
    job = add_verification(database, [("7", "7"), ("x+1", "1+x")])
    with database.begin() as connection:
        jobs.release(connection, job)
    with pytest.raises(LeaseLostError):
        verify.run(context, job)
    assert causes_of(database, job) == [None, None]


def test_a_lease_lost_on_the_way_ends_the_writing(database: Database, make_context: MakeContext) -> None:
    job = add_verification(database, [("x+1", "1+x"), ("7", "7")])
    stalling = StallingVerifier(after=0)
    with make_context(stalling) as context, running(verify.run, context, job) as errors:
        wait_for(lambda: causes_of(database, job)[1] is not None)
        with database.begin() as connection:
            jobs.release(connection, job)
            claim(connection, job.id, "next")
        stalling.released.set()
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
