"""Policies are measured on any number of datasets, each by its own decoding, through the rows of rounds."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from hsstar.commands.evaluation_run import EvaluationRun
from hsstar.commands.problems import import_problems
from hsstar.data.files import ProblemFiles
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.verdict import Cause
from hsstar.insights.evaluation import load_results, run_table
from hsstar.store import contamination, datasets, evaluations, missing, rounds
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT, EvaluationSpec
from hsstar.store.rounds import Round
from hsstar.verifier import MathVerifier
from tests.store.driver import Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, Drawn, add_job, add_run, add_samples, make_recipe, select

RIGHT, WRONG = Drawn(Cause.CORRECT), Drawn(Cause.INCORRECT)
BENCHMARKS = ["quick", {"name": "amc23", "samples": 3, "max_new_tokens": 64}]


def add_benchmark(connection: Connection, name: str, problems: list[Problem], unreadable: int = 0) -> int:
    """A benchmark's dataset: the last problems have references that cannot be read."""
    dataset = datasets.ensure_dataset(connection, f"benchmarks/{name}")
    readable = [number < len(problems) - unreadable for number in range(len(problems))]
    datasets.add_problems(connection, dataset, problems, readable)
    datasets.mark_benchmark(connection, dataset, name, "content")
    return dataset


def add_amc(connection: Connection, count: int, unreadable: int = 0) -> int:
    problems = [Problem(f"amc problem {number}", "1", subject=f"s{number % 2}") for number in range(count)]
    return add_benchmark(connection, "amc23", problems, unreadable)


@pytest.mark.slow
def test_a_run_measures_every_policy_on_every_dataset_once(begin: Begin) -> None:
    evaluation = {"dataset": HELDOUT, "benchmarks": BENCHMARKS}
    problems = {"dataset": TRAIN, "per_iteration": 12}
    driver = begin(make_recipe(problems=problems, sampling={"n": 6, "n_p": 2}, evaluation=evaluation))
    call(driver.database, add_amc, 6, unreadable=2)
    driver.advance()
    table = run_table(driver.database, driver.run.name)
    assert (table.columns, table.benchmarks) == (("amc23", "quick", HELDOUT), 2)
    assert ([cells for _, _, cells in table.rows], table.mean(0)) == ([(None, None, None)], None)
    driver.work()
    driver.work()
    found = driver.rows("SELECT * FROM evaluation_results ORDER BY iteration, benchmark")
    assert [
        (row.iteration, row.model, row.benchmark, row.problems, row.samples, row.drawn, row.state)
        for row in found
    ] == [
        (number, model, *rest, "done")
        for number, model in enumerate(("M0", f"{driver.run.name}-M1"))
        # nothing is drawn for unreadable references
        for rest in (("amc23", 6, 3, 12), (HELDOUT, 5, 1, 5), ("quick", 4, 1, 4))
    ]
    held_out = [row.accuracy for row in found if row.measure == HELD_OUT]
    iteration = driver.statistics()
    assert [iteration.heldout_accuracy_before, iteration.heldout_accuracy_after] == held_out
    assert iteration.seconds_evaluation > 0
    amc = found[0]
    assert (amc.temperature, amc.top_p, amc.max_new_tokens, amc.unreadable) == (0.6, 0.95, 64, 2)
    assert amc.accuracy == pytest.approx(amc.correct / 3 / 6)
    assert amc.accuracy_readable == pytest.approx(amc.correct / 3 / 4)


def test_the_same_evaluation_key_is_added_once_and_another_beside_it(connection: Connection) -> None:
    run = add_run(connection, make_recipe(evaluation={"benchmarks": BENCHMARKS}))
    add_amc(connection, 3)
    section = run.recipe.evaluation.benchmarks[1]
    first = evaluations.ensure_benchmark(connection, run, 0, run.model_id, section)
    assert evaluations.ensure_benchmark(connection, run, 1, run.model_id, section) == first
    part = section.model_copy(update={"problems": 2})
    second = evaluations.ensure_benchmark(connection, run, 0, run.model_id, part)
    assert second.id != first.id
    assert [len(evaluations.outcomes(connection, each.id)) for each in (first, second)] == [3, 2]
    assert evaluations.pending(connection, run.id, [run.model_id])
    assert not evaluations.all_finished(connection, run.id, [section.evaluation_key])
    evaluations.finish(connection, first)
    assert evaluations.all_finished(connection, run.id, [section.evaluation_key])
    assert not evaluations.all_finished(connection, run.id, [section.evaluation_key, part.evaluation_key])


def test_what_came_out_of_each_problem(connection: Connection) -> None:
    run = add_run(connection)
    dataset = add_amc(connection, 4, unreadable=1)
    plan = EvaluationSpec("m", dataset, 2, None)
    added = evaluations.add_evaluation(connection, run.id, 0, run.model_id, plan)
    evaluations.assign_all_problems(connection, added.id, dataset, None, 2)
    first, second, third, _ = list(datasets.statement_keys(connection, dataset))
    unjudged = {0: Drawn(Cause.TIMED_OUT), 1: Drawn(Cause.NO_ANSWER)}
    cut, ended = Drawn(tokens=4, finish_reason="length"), Drawn(tokens=8, finish_reason="stop")
    add_samples(connection, added.id, {first: {0: RIGHT, 1: WRONG}, second: unjudged})
    rounds.exclude(connection, added.id, {third: "too long"})
    assert [
        (
            each.drawn,
            each.correct,
            each.majority,
            each.without_verdict,
            each.tokens,
            each.readable,
            each.exclusion,
        )
        for each in evaluations.outcomes(connection, added.id)
    ] == [
        (2, 1, False, 0, 20, True, None),  # of several, the vote counts, and none is cast
        (2, 0, False, 1, 20, True, None),
        (0, 0, False, 0, 0, True, "too long"),
        (0, 0, False, 0, 0, False, "the reference answer cannot be read"),
    ]
    evaluations.finish(connection, added)
    query = (
        "SELECT accuracy, standard_error, unreadable, left_out, solved, without_verdict, mean_tokens, "
        "truncated_share, temperature, max_new_tokens, accuracy_readable FROM evaluation_results"
    )
    (row,) = select(connection, query)
    # the error is √((0.375² + 3·0.125²) / 3 / 4)
    assert row[:-1] == (0.125, 0.125, 1, 1, 1, 1, 10, None, None, None)
    assert row[-1] == pytest.approx(0.5 / 3)
    add_samples(connection, added.id, {first: {2: cut, 3: ended, 4: ended}, second: {2: cut}})
    query = "SELECT drawn, correct, mean_tokens, truncated_share FROM evaluation_results"
    assert select(connection, query) == [(8, 1, (40 + 3 * 8) / 8, 2 / 4)]


Answers = list[tuple[str | None, bool]]
"""Of one problem: the answers of its samples by slot, and whether each is correct."""

SUMS = ("x+1", "1+x", "x + 1", "1 + x")  # as whole responses they would say their last number
BALLOTS: list[Answers] = [
    [*[("1", True)] * 3, *((answer, False) for answer in SUMS)],  # four equal wrong answers win
    [*[("1", True)] * 3, *((answer, False) for answer in ("7", "8", "9", "10"))],  # different ones do not
    [("1", True), ("0.5", False), ("1/2", False), ("1", True), (None, False), (None, False), (None, False)],
    [("0.5", False), ("1", True), ("1", True), ("1/2", False), (None, False), (None, False), (None, False)],
    [("7", False)] * 7,
    [(None, False)] * 7,
    [("1", True)] * 7,
]


def vote_on(begin: Begin, ballots: list[Answers]) -> tuple[Driver, Round, list[int]]:
    """An evaluation without decoding, its problems, one per ballot, and all its samples verified."""
    driver = begin(iterations=0)
    answered = text("UPDATE samples SET answer = :answer WHERE problem_id = :problem AND slot = :slot")
    with driver.database.begin() as connection:
        dataset = add_amc(connection, len(ballots))
        spec = EvaluationSpec("m", dataset, 7, None)
        added = evaluations.add_evaluation(connection, driver.run.id, 0, driver.run.model_id, spec)
        evaluations.assign_all_problems(connection, added.id, dataset, None, 7)
        problems = list(datasets.statement_keys(connection, dataset))
        for problem, ballot in zip(problems, ballots, strict=True):
            samples = {slot: RIGHT if correct else WRONG for slot, (_, correct) in enumerate(ballot)}
            add_samples(connection, added.id, {problem: samples})
            for slot, (answer, _) in enumerate(ballot):
                connection.execute(answered, {"answer": answer, "problem": problem, "slot": slot})
    return driver, added, problems


def is_pending(driver: Driver) -> bool:
    return call(driver.database, evaluations.pending, driver.run.id, [driver.run.model_id])


def majority_votes(driver: Driver) -> dict[int, bool]:
    return {row.problem_id: row.correct for row in driver.rows("SELECT * FROM majority_votes")}


@pytest.mark.slow
def test_an_evaluation_ends_with_its_votes_and_showing_it_verifies_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, _, problems = vote_on(begin, BALLOTS)
    for _ in range(2):
        driver.advance()  # enqueues the votes once
        assert len(driver.queued([JobKind.VERIFY])) == 4  # of two problems with seven samples each
        assert is_pending(driver)
    expected = [False, True, True, False, False, False, True]
    driver.work()
    assert majority_votes(driver) == dict(zip(problems, expected, strict=True))
    assert not is_pending(driver)
    monkeypatch.setattr(MathVerifier, "__init__", lambda *_: pytest.fail("a verifier was started"))
    (result,) = load_results(driver.database, EvaluationRun(driver.run, "M0", (("amc23", "m"),)))
    assert result.figures.majority == sum(expected) / len(expected)
    assert result.figures.pass_at[7] == 5 / 7
    assert list(result.subjects) == ["s0", "s1"]


def test_the_last_verification_of_a_problem_votes_and_a_lost_vote_is_cast_again(begin: Begin) -> None:
    driver, added, (problem,) = vote_on(begin, BALLOTS[:1])
    driver.execute("UPDATE samples SET verdict = NULL, cause = NULL, answer = NULL WHERE slot IN (0, 1)")
    with driver.database.begin() as connection:
        first, last = (add_job(connection, added.id, JobKind.VERIFY, {problem: [slot]}) for slot in (0, 1))
    driver.compute(first)
    assert majority_votes(driver) == {}  # a sample of it has no verdict yet
    driver.compute(last)
    assert majority_votes(driver) == {problem: False}
    driver.execute("DELETE FROM majority_votes")
    driver.advance()
    (again,) = driver.queued()
    driver.do(again)
    assert majority_votes(driver) == {problem: False}
    assert not is_pending(driver)


def test_failed_votes_hold_an_evaluation_up_until_they_are_discarded(begin: Begin) -> None:
    driver, added, _ = vote_on(begin, BALLOTS[-1:])
    driver.advance()
    driver.fail(driver.queued()[0])
    driver.work()
    assert is_pending(driver)
    call(driver.database, missing.discard_failed, driver.run.id)
    driver.advance()
    assert not is_pending(driver)
    (outcome,) = call(driver.database, evaluations.outcomes, added.id)
    assert (outcome.accuracy, outcome.majority) == (1, False)


WORDS = " ".join(f"word{number}" for number in range(13))


def add_overlapping(connection: Connection) -> tuple[int, int]:
    """Training problems: one equal to a benchmark's, one with thirteen of its words, two of their own."""
    measured = add_benchmark(connection, "gsm8k", [Problem("What is 1+1?", "2"), Problem(WORDS, "3")])
    trained = datasets.ensure_dataset(connection, "train")
    statements = ["what is $1+1$ ?", f"First {WORDS} then", "own", "What is 1-1?"]
    given = [Problem(statement, "2") for statement in statements]
    datasets.add_problems(connection, trained, given, [True] * 4)
    return trained, measured


def test_overlaps_are_found_kept_and_counted(connection: Connection) -> None:
    trained, measured = add_overlapping(connection)
    assert contamination.evaluation_datasets(connection) == [measured]
    assert contamination.training_datasets(connection) == [trained]
    for _ in range(2):
        (found,) = contamination.find_overlaps(connection, [trained], [measured])
        assert (found.dataset, found.problems, found.against) == ("train", 4, "benchmarks/gsm8k")
        assert (found.exact, found.runs) == (1, 1)
    assert contamination.find_overlaps(connection, [trained], []) == []
    assert len(select(connection, "SELECT FROM problem_overlaps")) == 2


def test_an_import_tells_of_overlaps_among_its_new_problems(database: Database, tmp_path: Path) -> None:
    call(database, add_overlapping)
    file = tmp_path / "more.jsonl"
    lines = [{"problem": "What is $1+1$?", "answer": "2"}, {"problem": "new", "answer": "3"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = import_problems(database, ProblemFiles([file], ProblemFormat.MATH), "more").overlaps
    assert (found.dataset, found.against, found.exact) == ("more", "benchmarks/gsm8k", 1)
