"""The verification stage with the real verifier: what is written when, and computed how often."""

import threading
from collections.abc import Iterator, Sequence
from functools import partial

import psutil
import pytest
from sqlalchemy import Connection, text

from hsstar.domain.errors import DatabaseError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem
from hsstar.domain.verdict import LASTING_CAUSES, Cause, CheckResult
from hsstar.stages import verify
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.store import datasets
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job, LeaseLostError
from hsstar.store.samples import load_known_verdicts, remember_verdicts
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from tests.store import noting
from tests.store.driver import call, rows
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_run,
    add_samples,
    claim,
    make_recipe,
    state_of,
)
from tests.store.threads import at_once, running
from tests.waiting import wait_for

Judged = tuple[Drawn | str, str]
"""A sample, or its answer alone, and the reference answer of its problem."""


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

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        self.asked += len(pairs)
        for number, decision in enumerate(super().decide(pairs)):
            if number == self.after:
                self.released.wait()
                if self.fails_with is not None:
                    raise self.fails_with
            yield decision


def context_of(database: Database, verifier: MathVerifier) -> WorkerContext:
    return noting.make_context(database, verifier=lambda settings: verifier)


def add_verification(database: Database, judged: Sequence[Judged], thinking: str = "auto") -> Job:
    """A claimed job over samples of a problem each; the samples' order is that of the list."""
    with database.begin() as connection:
        dataset = datasets.ensure_dataset(connection, TRAIN)
        given = [Problem(f"problem {number}", reference) for number, (_, reference) in enumerate(judged)]
        datasets.add_problems(connection, dataset, given, [True] * len(given))
        by_key = datasets.problem_ids(connection, dataset, [problem.key for problem in given])
        ids = [by_key[problem.key] for problem in given]
        recipe = make_recipe(policy={"model": "M0", "thinking": thinking})
        round_id = add_iteration(connection, add_run(connection, recipe), ids).id
        for problem_id, (drawn, _) in zip(ids, judged, strict=True):
            sample = Drawn(response=rf"So it is $\boxed{{{drawn}}}$.") if isinstance(drawn, str) else drawn
            add_samples(connection, round_id, {problem_id: {0: sample}})
        job_id = add_job(connection, round_id, JobKind.VERIFY, {problem_id: [0] for problem_id in ids})
        return claim(connection, job_id)


def test_no_answer_comes_from_thinking_with_marks_of_ones_own(
    database: Database, verifier: MathVerifier
) -> None:
    responses = ["<plan>It is \\boxed{1}", "<plan>\\boxed{1}</plan>\\boxed{2}", "\\boxed{1}</plan>\\boxed{2}"]
    judged = [(Drawn(response=response), "1") for response in responses]
    job = add_verification(database, judged, "<plan>,</plan>")
    verify.run(context_of(database, verifier), job)
    assert causes_of(database, job) == ["no_answer", "incorrect", "incorrect"]


def causes_of(database: Database, job: Job) -> list[str | None]:
    query = "SELECT cause FROM samples WHERE round_id = :round_id ORDER BY id"
    return [row.cause for row in rows(database, query, round_id=job.round_id)]


def known_pairs(database: Database) -> int:
    return len(rows(database, "SELECT FROM known_verdicts"))


def checking_processes() -> set[psutil.Process]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {child for child in children if "hsstar.verifier.process" in " ".join(child.cmdline())}


JUDGED: list[tuple[Drawn | str, str, str]] = [
    ("8", "8", "correct"),
    ("7", "8", "incorrect"),
    (r"\sqrt{4}", "2", "correct"),
    ("x+1", "x+2", "incorrect"),
    ("1+*2", "7", "unparsable"),
    ("7", "1+*2", "bad_reference"),
    ("x+y", "y+x", "correct"),
    ("x + y", "y+x", "correct"),
    # the last number of a cut response is no answer, and a box is one
    (Drawn(response="So it is 7", finish_reason="stop"), "7", "correct"),
    (Drawn(response="So it is 7", finish_reason="length"), "7", "no_answer"),
    (Drawn(response="So it is 7"), "7", "correct"),
    (Drawn(response=r"So it is $\boxed{7}$, since 8", finish_reason="length"), "7", "correct"),
    (Drawn(response=r"So it is $\boxed{8}$, since 7", finish_reason="stop"), "7", "incorrect"),
]


def test_every_sample_gets_its_cause(database: Database, verifier: MathVerifier) -> None:
    job = add_verification(database, [(drawn, reference) for drawn, reference, _ in JUDGED])
    assert verify.run(context_of(database, verifier), job) == call(database, jobs.problem_ids, job)
    assert causes_of(database, job) == [cause for *_, cause in JUDGED]
    assert call(database, state_of, job.id) == "done"
    assert rows(database, "SELECT answer FROM samples ORDER BY id LIMIT 2") == [("8",), ("7",)]
    assert known_pairs(database) == 5


def test_what_is_known_starts_no_checking_process(database: Database, verifier: MathVerifier) -> None:
    judged = [(drawn, reference) for drawn, reference, _ in JUDGED]
    first, second = add_verification(database, judged), add_verification(database, judged)
    verify.run(context_of(database, verifier), first)
    before = checking_processes()
    with MathVerifier(1) as another:
        verify.run(context_of(database, another), second)
        assert checking_processes() == before
    assert causes_of(database, second) == causes_of(database, first)


def test_what_is_known_of_another_version_is_computed(database: Database, verifier: MathVerifier) -> None:
    first, second = (add_verification(database, [("x+1", "1+x")]) for _ in range(2))
    verify.run(context_of(database, verifier), first)
    with database.begin() as connection:
        connection.execute(text("UPDATE known_verdicts SET verifier_version = 'old', cause = 'incorrect'"))
    verify.run(context_of(database, verifier), second)
    assert causes_of(database, second) == ["correct"]
    assert known_pairs(database) == 2


@pytest.mark.slow
def test_verdicts_are_written_while_others_are_being_checked_and_not_computed_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_BATCH_PAIRS", 4)
    monkeypatch.setattr(verify, "_BATCH_SECONDS", 0.05)
    algebraic = [(f"x+{number}", f"{number}+x") for number in range(12)]  # no text alone proves them
    job = add_verification(database, [*algebraic, ("7", "7")])
    stalling = StallingVerifier(after=10)
    with stalling, running(verify.run, context_of(database, stalling), job) as errors:
        wait_for(lambda: known_pairs(database) == 10)
        assert sorted(causes_of(database, job), key=str) == [None, None, *["correct"] * 11]
        stalling.fails_with = RuntimeError("closed")
        stalling.released.set()
    assert [type(error) for error in errors] == [ComputeError]
    call(database, jobs.record_failure, job, "closed", "", 3, divisible=True)
    with StallingVerifier() as following:
        assert len(verify.run(context_of(database, following), call(database, claim, job.id))) == 13
    assert (following.prepared, following.asked) == (2, 2)
    assert causes_of(database, job) == ["correct"] * 13


def test_a_lease_lost_on_the_way_ends_the_writing(database: Database) -> None:
    job = add_verification(database, [("x+1", "1+x"), ("7", "7")])
    stalling = StallingVerifier(after=0)
    with stalling, running(verify.run, context_of(database, stalling), job) as errors:
        wait_for(lambda: causes_of(database, job)[1] is not None)
        call(database, jobs.release, job)
        call(database, claim, job.id, "next")
        stalling.released.set()
    assert [type(error) for error in errors] == [LeaseLostError]
    assert causes_of(database, job) == [None, "correct"]
    assert call(database, state_of, job.id) == "running"


def test_failures_of_the_database_are_not_blamed_on_the_samples(
    database: Database, verifier: MathVerifier
) -> None:
    job = add_verification(database, [("7", "7"), ("x+1", "1+x")])
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE known_verdicts ADD CHECK (false)"))
    with pytest.raises(DatabaseError):
        verify.run(context_of(database, verifier), job)
    assert causes_of(database, job) == ["correct", None]


# --- known verdicts -------------------------------------------------------------------------------


CORRECT, INCORRECT = CheckResult(Cause.CORRECT), CheckResult(Cause.INCORRECT, "by its text")
UNPARSABLE = CheckResult(Cause.UNPARSABLE)


def keys(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(count)]


def test_every_version_has_its_own_verdicts_and_what_is_known_stays(connection: Connection) -> None:
    one, two, three = keys(3)
    remember_verdicts(connection, "1", {one: CORRECT})
    remember_verdicts(connection, "1", {one: INCORRECT, two: INCORRECT})
    remember_verdicts(connection, "2", {one: UNPARSABLE})
    known = [load_known_verdicts(connection, version, [one, two, three]) for version in "123"]
    assert known == [{one: CORRECT, two: INCORRECT}, {one: UNPARSABLE}, {}]
    assert load_known_verdicts(connection, "1", [two]) == {two: INCORRECT}


def test_only_lasting_causes_are_remembered(connection: Connection) -> None:
    given = dict(zip(keys(len(Cause)), map(CheckResult, Cause), strict=True))
    remember_verdicts(connection, "1", given)
    lasting = {key: result for key, result in given.items() if result.cause in LASTING_CAUSES}
    assert load_known_verdicts(connection, "1", list(given)) == lasting


def test_one_call_takes_no_pair_or_ten_thousand(connection: Connection) -> None:
    for verdicts in (dict.fromkeys(keys(10_000), CORRECT), {}):
        remember_verdicts(connection, "1", verdicts)
        assert load_known_verdicts(connection, "1", list(verdicts)) == verdicts


def test_workers_that_find_the_same_pairs_in_another_order_do_not_block_each_other(
    database: Database,
) -> None:
    barrier = threading.Barrier(4)

    def remember(order: int) -> None:
        verdicts = dict.fromkeys(keys(2_000)[::order], CORRECT)
        for _ in range(3):
            barrier.wait(60)
            call(database, remember_verdicts, "1", verdicts)
            barrier.wait(60)
            with database.begin() as connection:
                connection.execute(text("DELETE FROM known_verdicts"))

    assert at_once(*(partial(remember, order) for order in (1, -1, 1, -1))) == []
