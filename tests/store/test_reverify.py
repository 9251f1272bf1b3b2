"""Stored samples judged again, by the real verifier: what is kept, what changes, and what never does."""

import os
import signal
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.commands.reverify import Change, ReverifyRequest, RoundReport, open_verifiers, reverify
from hsstar.commands.verdicts import Correction, set_verdict
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.domain.verdict import Cause, Verdict
from hsstar.settings import Settings
from hsstar.store import method, rounds, votes
from hsstar.store.database import Database, lock_run
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import AnswerPair, VerificationRequest, Verifier
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers
from tests.checkout import this_checkout
from tests.store.driver import Begin, Driver, call, small_engines
from tests.store.factory import (
    HELDOUT,
    TRAIN,
    Drawn,
    add_iteration,
    add_problems,
    add_run,
    add_samples,
    claim,
    make_recipe,
)
from tests.store.test_conductor import check_iteration
from tests.store.test_evaluations import vote_on
from tests.store.threads import beside
from tests.waiting import wait_for

__all__ = ["this_checkout"]

PROBLEMS = 12
RECIPE = make_recipe(
    problems={"dataset": TRAIN, "per_iteration": PROBLEMS},
    sampling={"n": 6, "n_p": 2},
    evaluation={
        "dataset": HELDOUT,
        "samples": 3,
        "temperature": 0.5,
        "benchmarks": [{"name": "quick"}],
    },
)
SETTINGS = Settings(Path("/nonexistent"), Path("/nonexistent"))
EVERYTHING = {
    "samples": "SELECT id, verdict, cause, answer, verifier FROM samples ORDER BY id",
    "labels": "SELECT * FROM difficulty_labels ORDER BY 1, 2",
    "pairs": "SELECT * FROM preference_pairs ORDER BY id",
    "allotments": "SELECT round_id, problem_id, allotment FROM round_problems ORDER BY 1, 2",
    "evaluations": "SELECT * FROM evaluations ORDER BY round_id",
    "votes": "SELECT * FROM majority_votes ORDER BY 1, 2",
    "iterations": "SELECT * FROM iterations ORDER BY 1",
    "jobs": "SELECT id, state FROM jobs ORDER BY 1",
}


def always(verifier: Verifier) -> OpenVerifiers:
    return OpenVerifiers(lambda settings: verifier)


class OlderVerifier(MathVerifier):
    """One with a mistake: of half of the right answers it says that it cannot read them."""

    def __init__(self) -> None:
        super().__init__(1)
        self.version = "older"

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        return [
            replace(pair, cause=Cause.UNPARSABLE)
            if pair.cause is Cause.CORRECT and zlib.crc32(request.response.encode()) % 2 == 0
            else pair
            for request, pair in zip(requests, super().prepare(requests), strict=True)
        ]


class StallingVerifier(MathVerifier):
    """The present one; at its second batch it waits for the end of the process."""

    batches = 0

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        self.batches += 1
        if self.batches == 2:
            threading.Event().wait()
        return super().prepare(requests)


@pytest.fixture
def begun(begin: Begin, tmp_path: Path) -> Iterator[Driver]:
    """A run of one iteration whose worker has the older verifier."""
    driver = begin(RECIPE)
    with OlderVerifier() as older:
        yield Driver(driver.database, driver.run, small_engines(older), tmp_path, 6)


@pytest.fixture
def finished(begun: Driver) -> Driver:
    begun.work()
    assert begun.states() == [IterationState.DONE]
    return begun


Again = Callable[..., tuple[list[RoundReport], list[Change]]]


@pytest.fixture
def again(begun: Driver, verifier: MathVerifier) -> Again:
    """Judges the run again, by the present verifier."""

    def judge(**options: Any) -> tuple[list[RoundReport], list[Change]]:
        reports: list[RoundReport] = []
        if not {"evaluation", "dataset"} & set(options):
            options["run"] = begun.run.name
        request = ReverifyRequest(author="ann@box", **options)
        changes = list(reverify(begun.database, request, always(verifier), SETTINGS, reports))
        return reports, changes

    return judge


def everything(driver: Driver) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [tuple(row) for row in driver.rows(query)] for name, query in EVERYTHING.items()}


def history(driver: Driver) -> list[tuple[Any, ...]]:
    query = "SELECT sample_id, cause, answer, verifier, author, reason, in_force FROM verdict_history"
    return [tuple(row) for row in driver.rows(f"{query} ORDER BY sample_id, judged_at, in_force DESC")]


MISTAKES = "samples WHERE cause = 'unparsable' AND verifier = 'older'"
IN_ITERATIONS = f"{MISTAKES} AND round_id IN (SELECT round_id FROM iterations)"


def test_what_would_change_is_what_the_rules_of_the_run_make_of_the_new_verdicts(
    finished: Driver, again: Again, verifier: MathVerifier
) -> None:
    before = everything(finished)
    mistakes = finished.count(MISTAKES)
    reports, changes = again(dry_run=True)
    assert everything(finished) == before
    assert finished.count("verdicts") == 0
    assert sum(report.judged for report in reports) == finished.count("samples")
    found = {change.sample_id for change in changes if change.change == "verdict"}
    assert found == {row.id for row in finished.rows(f"SELECT id FROM {MISTAKES}")}
    assert sum(report.verdicts for report in reports) == len(found) == mistakes > 20
    assert sum(report.in_force for report in reports) == 0
    labels, pairs = remade(finished, found)
    of_iteration = [report for report in reports if report.round == "iteration 0"]
    (report,) = of_iteration
    assert report.labels == len(labels) > 0
    assert {(c.problem_id, c.before, c.after) for c in changes if c.change == "label"} == labels
    lost = {(c.problem_id, *c.slots) for c in changes if c.change == "pair" and c.after is None}
    gained = {(c.problem_id, *c.slots) for c in changes if c.change == "pair" and c.before is None}
    assert (lost, gained) == pairs
    assert (report.pairs_lost, report.pairs_gained) == (len(lost), len(gained))
    assert len(gained) > 0
    stored = {row.round_id: row.accuracy for row in finished.rows("SELECT * FROM evaluations")}
    evaluations = {report.round_id: report for report in reports if report.round_id in stored}
    assert {key: report.accuracy for key, report in evaluations.items()} == pytest.approx(stored)
    assert any(report.accuracy_again != report.accuracy for report in evaluations.values())


def remade(driver: Driver, corrected: set[int | None]) -> tuple[set[Any], tuple[set[Any], set[Any]]]:
    """Labels that differ, pairs lost and gained, as the statements of the method make them; then undone."""
    labels_of = "SELECT problem_id, level FROM difficulty_labels"
    pairs_of = """
        SELECT pairs.problem_id, chosen.slot AS chosen, rejected.slot AS rejected
        FROM preference_pairs AS pairs
        JOIN samples AS chosen ON chosen.id = chosen_sample_id
        JOIN samples AS rejected ON rejected.id = rejected_sample_id
    """
    with driver.database.engine.connect() as connection, connection.begin() as transaction:

        def read() -> tuple[dict[int, str], set[tuple[int, ...]]]:
            labels = {row.problem_id: row.level for row in connection.execute(text(labels_of))}
            return labels, {tuple(row) for row in connection.execute(text(pairs_of))}

        (labels, pairs) = read()
        change = "UPDATE samples SET verdict = 'correct', cause = 'correct' WHERE id = ANY (:ids)"
        connection.execute(text(change), {"ids": list(corrected)})
        connection.execute(text("DELETE FROM difficulty_labels"))
        connection.execute(text("DELETE FROM preference_pairs"))
        (iteration,) = rounds.list_iterations(connection, driver.run.id)
        method.label_problems(connection, driver.run, iteration.round)
        method.build_pairs(connection, driver.run, iteration.round)
        new_labels, new_pairs = read()
        transaction.rollback()
    differing = {(id, labels[id], new_labels[id]) for id in labels if labels[id] != new_labels[id]}
    return differing, (pairs - new_pairs, new_pairs - pairs)


@pytest.mark.slow
def test_a_finished_run_keeps_its_verdicts_and_the_new_ones_stand_beside(
    finished: Driver, again: Again, verifier: MathVerifier
) -> None:
    before = everything(finished)
    mistakes = [row.id for row in finished.rows(f"SELECT id FROM {MISTAKES} ORDER BY id")]
    for _ in range(2):  # the second time there is nothing new
        reports, _ = again()
        assert sum(report.verdicts for report in reports) == len(mistakes)
        assert sum(report.in_force for report in reports) == 0
        assert everything(finished) == before
        rows = history(finished)
        assert len(rows) == 2 * len(mistakes)
    answers = {row.id: row.answer for row in finished.rows("SELECT id, answer FROM samples")}
    expected = []
    for id in mistakes:
        expected.append((id, "unparsable", answers[id], "older", "driver", None, True))
        expected.append((id, "correct", answers[id], verifier.version, "ann@box", None, False))
    assert rows == expected


@pytest.mark.slow
def test_evaluations_that_are_done_change_where_that_is_wanted_and_nothing_else_does(
    finished: Driver, again: Again
) -> None:
    again()  # recorded before, beside
    before = everything(finished)
    reports, _ = again(change_evaluations=True)
    after = everything(finished)
    assert [after[name] for name in ("labels", "pairs", "allotments", "iterations")] == [
        before[name] for name in ("labels", "pairs", "allotments", "iterations")
    ]
    evaluated = "samples JOIN evaluations USING (round_id)"
    assert finished.count(f"{evaluated} WHERE verifier = 'older' AND cause = 'unparsable'") == 0
    assert finished.count(MISTAKES) > 0  # of the iteration
    of_evaluations = [report for report in reports if report.round.startswith("evaluation")]
    assert sum(report.in_force for report in reports) == sum(report.verdicts for report in of_evaluations)
    # those of one sample a problem are done again; maj@k waits for a worker
    running = "SELECT measure FROM evaluation_results WHERE state = 'running'"
    assert {row.measure for row in finished.rows(running)} <= {HELDOUT}
    finished.work()
    stored = finished.rows("SELECT round_id, accuracy FROM evaluations WHERE finished_at IS NOT NULL")
    expected = {report.round_id: report.accuracy_again for report in of_evaluations}
    assert {row.round_id: row.accuracy for row in stored} == pytest.approx(expected)
    assert finished.states() == [IterationState.DONE]
    check_counts(finished)
    settled = everything(finished)
    again(change_evaluations=True)
    assert everything(finished) == settled


def check_counts(driver: Driver) -> None:
    counted = driver.rows(
        "SELECT round_id, sum(correct), sum(no_answer) FROM sample_counts GROUP BY 1 ORDER BY 1"
    )
    present = driver.rows(
        "SELECT round_id, count(*) FILTER (WHERE verdict = 'correct'), "
        "count(*) FILTER (WHERE cause = 'no_answer') FROM samples GROUP BY 1 ORDER BY 1"
    )
    assert counted == present


def test_an_iteration_that_is_sampling_ends_as_if_it_had_always_had_the_new_verdicts(
    begun: Driver, again: Again, verifier: MathVerifier
) -> None:
    begun.work([JobKind.SAMPLE])
    for kind in (JobKind.SCORE, JobKind.VERIFY):
        for job_id in begun.queued([kind])[:-1]:
            begun.do(job_id)
    assert begun.states() == [IterationState.PRE_SAMPLING]
    labels = "difficulty_labels WHERE accuracy > 0"
    solved = begun.count(labels)
    reports, changes = again()
    report = reports[0]
    assert report.in_force == report.verdicts > 0
    assert sum(change.change == "label" for change in changes) == report.labels > 0
    assert report.pairs_lost == report.pairs_gained == 0
    assert begun.count(labels) > solved
    assert begun.count(IN_ITERATIONS) == 0
    current = Driver(begun.database, begun.run, small_engines(verifier), begun._context.models_folder, 6)
    current.work()
    assert current.states() == [IterationState.DONE]
    check_iteration_of(current)
    check_counts(current)


def check_iteration_of(driver: Driver) -> None:
    tables = driver.tables()
    assert len(tables["pairs"]) > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.store.test_conductor.PROBLEMS", PROBLEMS)
        check_iteration(RECIPE, 0, tables)


@pytest.mark.slow
def test_while_re_sampling_verdicts_and_pairs_follow_and_what_the_budget_was_shared_by_stays(
    begun: Driver, again: Again, verifier: MathVerifier
) -> None:
    begun.conductor.sweep()
    while begun.states() != [IterationState.RE_SAMPLING]:
        begun.do(begun.queued()[0])
    before = everything(begun)
    again()
    after = everything(begun)
    assert (after["labels"], after["allotments"]) == (before["labels"], before["allotments"])
    assert begun.count(IN_ITERATIONS) == 0
    current = Driver(begun.database, begun.run, small_engines(verifier), begun._context.models_folder, 6)
    current.work()
    assert current.states() == [IterationState.DONE]
    chosen = "preference_pairs JOIN samples ON samples.id = chosen_sample_id"
    rejected = "preference_pairs JOIN samples ON samples.id = rejected_sample_id"
    assert begun.count(f"{chosen} WHERE verdict <> 'correct'") == 0
    assert begun.count(f"{rejected} WHERE verdict <> 'incorrect'") == 0
    check_counts(current)


def test_an_iteration_whose_work_is_done_is_closed(begun: Driver, again: Again) -> None:
    """Between its last job and the next step nobody may take the verdicts from under the conductor."""
    begun.conductor.sweep()
    while jobs := begun.queued():
        for job_id in jobs:
            begun.compute(job_id)
    assert begun.states() == [IterationState.PRE_SAMPLING]
    before = begun.count(IN_ITERATIONS)
    reports, _ = again()
    assert reports[0].verdicts == before > 0 == reports[0].in_force
    assert begun.count(IN_ITERATIONS) == before


def test_no_label_is_made_of_verdicts_that_are_being_replaced(begun: Driver) -> None:
    begun.work([JobKind.SAMPLE])
    begun.work([JobKind.SCORE])
    first, *_ = begun.queued([JobKind.VERIFY])
    with begun.database.begin() as connection:
        lock_run(connection, begun.run.id)
        begun.do(first)
        assert begun.count("difficulty_labels") == 0
    begun.work()
    assert begun.states() == [IterationState.DONE]
    check_iteration_of(begun)


def test_judging_again_holds_up_no_worker(begun: Driver, verifier: MathVerifier) -> None:
    begun.work([JobKind.SAMPLE])
    for job_id in begun.queued([JobKind.VERIFY])[:2]:
        begun.do(job_id)
    asked, released = threading.Event(), threading.Event()

    class Waiting(OlderVerifier):
        def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
            asked.set()
            released.wait()
            return verifier.prepare(requests)

    with Waiting() as waiting:
        request = ReverifyRequest(run=begun.run.name, author="ann")
        with beside(lambda: list(reverify(begun.database, request, always(waiting), SETTINGS, []))) as errors:
            try:
                wait_for(asked.is_set, what="it judges")
                begun.work()
                assert begun.states() == [IterationState.DONE]
                before = everything(begun)
            finally:
                released.set()
    assert errors == []
    assert everything(begun) == before  # the iteration was done when the verdicts came


@pytest.mark.slow
def test_a_killed_reverify_leaves_whole_batches_and_the_next_one_does_the_rest(
    finished: Driver, again: Again, tmp_path: Path
) -> None:
    url = finished.database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "hsstar.cli", "reverify", finished.run.name, "--change-evaluations"]
    command += ["--verifier", f"{__name__}:{StallingVerifier.__name__}"]
    environment = os.environ | {"HSSTAR_DATABASE_URL": url, "HSSTAR_HOME": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    try:
        wait_for(lambda: finished.count("verdicts") > 0, what="its first batch is written")
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    of_rounds = "SELECT DISTINCT round_id FROM verdicts JOIN samples ON samples.id = sample_id"
    assert len(finished.rows(of_rounds)) == 1
    finished.work()  # what a worker makes of an evaluation that was left open
    again(change_evaluations=True)
    finished.work()
    assert Counter(row[0] for row in history(finished)).most_common(1)[0][1] == 2
    evaluated = "samples JOIN evaluations USING (round_id) WHERE verifier = 'older' AND cause = 'unparsable'"
    assert finished.count(evaluated) == 0
    assert finished.count("evaluations WHERE finished_at IS NULL") == 0
    reports, _ = again(dry_run=True)
    assert {report.verdicts for report in reports if report.round.startswith("evaluation")} == {0}
    check_counts(finished)


def test_one_evaluation_or_the_problems_of_a_dataset_are_judged_alone(finished: Driver, again: Again) -> None:
    held_out = finished.rows("SELECT round_id FROM evaluation_results WHERE measure = 'heldout'")[0].round_id
    ((report,), _) = again(evaluation=held_out, dry_run=True)
    assert (report.round_id, report.judged) == (
        held_out,
        finished.count(f"samples WHERE round_id = {held_out}"),
    )
    reports, _ = again(dataset=HELDOUT, dry_run=True)
    assert {report.round for report in reports} == {f"evaluation {number} heldout" for number in (0, 1)}
    for wrong in ({"evaluation": 10**9}, {"dataset": "no"}):
        with pytest.raises(NotFoundError, match="there is no"):
            again(**wrong)


@pytest.mark.slow
def test_a_time_out_replaces_no_verdict(database: Database) -> None:
    endless = Drawn(Cause.INCORRECT, response=r"It is \boxed{\sum_{n=1}^{10^9} n^n}.")
    with database.begin() as connection:
        (problem,) = add_problems(connection, 1)
        run = add_run(connection)
        iteration = add_iteration(connection, run, [problem])
        add_samples(connection, iteration.id, {problem: {0: endless}})
    reports: list[RoundReport] = []
    with MathVerifier(1, deadline_seconds=0.5) as hasty:
        request = ReverifyRequest(run=run.name, author="ann")
        assert list(reverify(database, request, always(hasty), SETTINGS, reports)) == []
    assert (reports[0].judged, reports[0].undecided) == (1, 1)
    with database.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM verdicts")) == 0


def correct(
    driver: Driver, sample_id: int, verdict: str, why: str = "I looked", **options: bool
) -> Correction:
    wish = {"change_evaluations": False} | options
    return set_verdict(driver.database, sample_id, Verdict(verdict), why, "ann", SETTINGS, **wish)


def test_a_person_has_the_last_word(finished: Driver, again: Again) -> None:
    evaluated = MISTAKES.replace("samples", "samples JOIN evaluations USING (round_id)", 1)
    sample = finished.rows(f"SELECT id FROM {evaluated} ORDER BY id LIMIT 1")[0].id
    beside = correct(finished, sample, "incorrect", "a wrong unit")
    assert (beside.before, beside.in_force) == ("unparsable", False)
    for _ in range(2):
        assert correct(finished, sample, "incorrect", "a wrong unit", change_evaluations=True).in_force
    finished.work()
    before = everything(finished)
    reports, changes = again()
    assert sum(report.corrected for report in reports) == 1
    assert sample not in {change.sample_id for change in changes}
    assert everything(finished) == before
    rows = [row[1:] for row in history(finished) if row[0] == sample]
    answer = rows[0][1]
    assert rows == [
        ("unparsable", answer, "older", "driver", None, False),
        ("incorrect", answer, None, "ann", "a wrong unit", False),
        ("incorrect", answer, None, "ann", "a wrong unit", True),
    ]
    check_counts(finished)


def test_what_no_person_can_correct_is_refused(begun: Driver) -> None:
    begun.work([JobKind.SAMPLE])
    unjudged = begun.rows("SELECT min(id) AS id FROM samples")[0].id
    with pytest.raises(ConflictError, match=f"sample {unjudged} has no verdict yet"):
        correct(begun, unjudged, "correct")
    with pytest.raises(NotFoundError, match="there is no sample 1000000000"):
        correct(begun, 10**9, "correct")
    with pytest.raises(BadInputError, match="say why"):
        correct(begun, unjudged, "correct", "  ")


def test_a_vote_on_other_verdicts_counts_no_more(begin: Begin) -> None:
    """Not even one that is written after the verdicts have changed."""
    driver, added, (problem,) = vote_on(begin, [[("1", True), ("1", True), ("7", False)]])
    driver.advance()
    (job_id,) = driver.queued()
    job = call(driver.database, claim, job_id)
    ballots = call(driver.database, votes.load_ballots, job)
    driver.execute("UPDATE samples SET verdict = 'incorrect', cause = 'incorrect'")
    call(driver.database, votes.write_votes, added.id, ballots, {problem: True})
    driver.execute(
        "UPDATE jobs SET state = 'queued', lease_token = NULL, lease_expires_at = NULL, worker = NULL"
    )
    driver.do(job_id)
    driver.work()
    assert driver.rows("SELECT correct FROM majority_votes")[0].correct is False
    assert driver.count("evaluations WHERE finished_at IS NULL") == 0


@pytest.mark.parametrize("name", ["nothing", "no.such:Class", "hsstar.verifier:Nothing", "pathlib:Path"])
def test_what_is_no_verifier_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match=f"--verifier {name}: no verifier"):
        open_verifiers(name)
