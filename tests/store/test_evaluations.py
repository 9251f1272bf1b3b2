"""Policies are measured on any number of datasets, each by its own decoding, through the rows of rounds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hsstar.commands.evaluation_run import EvaluationRun
from hsstar.commands.problems import import_problems
from hsstar.domain.errors import BadInputError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.verdict import Cause
from hsstar.insights.evaluation import load_results, run_table
from hsstar.store import contamination, datasets, evaluations, missing, rounds
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT, EvaluationSpec
from hsstar.store.rounds import Round
from hsstar.verifier import MathVerifier
from tests.store.driver import Begin, Driver
from tests.store.factory import HELDOUT, Drawn, add_job, add_run, add_samples, make_recipe

RIGHT, WRONG = Drawn(Cause.CORRECT), Drawn(Cause.INCORRECT)
BENCHMARKS = ["quick", {"name": "amc23", "samples": 3, "max_new_tokens": 64}]


def add_benchmark(connection: Connection, name: str, count: int, unreadable: int = 0) -> int:
    """A benchmark's dataset: the last problems have references that cannot be read."""
    given = [Problem(f"{name} problem {number}", "1", subject=f"s{number % 2}") for number in range(count)]
    dataset = datasets.ensure_dataset(connection, name)
    datasets.add_problems(
        connection, dataset, given, [number < count - unreadable for number in range(count)]
    )
    datasets.mark_benchmark(connection, dataset, name.removeprefix("benchmarks/"), "content")
    return dataset


RECIPE = make_recipe(
    problems={"dataset": "train", "per_iteration": 12},
    sampling={"n": 6, "n_p": 2},
    evaluation={"dataset": HELDOUT, "benchmarks": BENCHMARKS},
)


@pytest.fixture
def driver(begin: Begin) -> Driver:
    """One iteration of a run that measures its policies on held-out problems and two benchmarks."""
    driver = begin(RECIPE)
    with driver.database.begin() as connection:
        add_benchmark(connection, "benchmarks/amc23", 6, unreadable=2)
    return driver


def rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(query)).mappings()]


def test_a_run_measures_every_policy_on_every_dataset_once(driver: Driver) -> None:
    driver.work()
    driver.work()
    with driver.database.begin() as connection:
        found = rows(connection, "SELECT * FROM evaluation_results ORDER BY iteration, benchmark")
        (iteration,) = rows(connection, "SELECT * FROM iteration_statistics")
    assert [(row["iteration"], row["benchmark"], row["problems"], row["samples"]) for row in found] == [
        (number, *rest) for number in (0, 1) for rest in (("amc23", 6, 3), (HELDOUT, 5, 1), ("quick", 4, 1))
    ]
    assert {row["state"] for row in found} == {"done"}
    assert [row["drawn"] for row in found] == [12, 5, 4] * 2  # nothing for unreadable references
    held_out = [row["accuracy"] for row in found if row["measure"] == HELD_OUT]
    assert [iteration["heldout_accuracy_before"], iteration["heldout_accuracy_after"]] == held_out
    assert iteration["seconds_evaluation"] > 0
    amc = found[0]
    assert (amc["temperature"], amc["top_p"], amc["max_new_tokens"], amc["unreadable"]) == (0.6, 0.95, 64, 2)
    assert amc["accuracy"] == pytest.approx(amc["correct"] / 3 / 6)
    assert amc["accuracy_readable"] == pytest.approx(amc["correct"] / 3 / 4)


def test_the_table_of_a_run_has_a_row_per_policy_and_the_mean_of_its_benchmarks(driver: Driver) -> None:
    driver.advance()
    unfinished = run_table(driver.database, driver.run.name)
    assert [cells for _, _, cells in unfinished.rows] == [(None, None, None)]
    assert unfinished.mean(0) is None
    driver.work()
    table = run_table(driver.database, driver.run.name)
    assert (table.columns, table.benchmarks) == (("amc23", "quick", HELDOUT), 2)
    assert [(number, name) for number, name, _ in table.rows] == [(0, "M0"), (1, f"{driver.run.name}-M1")]
    cells = [[cell and cell[0] for cell in row] for _, _, row in table.rows]
    assert all(value is not None for row in cells for value in row)
    assert table.mean(0) == pytest.approx((cells[0][0] + cells[0][1]) / 2)  # type: ignore[operator]


def test_the_same_evaluation_key_is_added_once_and_another_beside_it(connection: Connection) -> None:
    run = add_run(connection, make_recipe(evaluation={"benchmarks": BENCHMARKS}))
    add_benchmark(connection, "benchmarks/amc23", 3)
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
    dataset = add_benchmark(connection, "benchmarks/amc23", 4, unreadable=1)
    plan = EvaluationSpec("m", dataset, 2, None)
    added = evaluations.add_evaluation(connection, run.id, 0, run.model_id, plan)
    evaluations.assign_all_problems(connection, added.id, dataset, None, 2)
    first, second, third, _ = list(datasets.statement_keys(connection, dataset))
    add_samples(
        connection,
        added.id,
        {first: {0: RIGHT, 1: WRONG}, second: {0: Drawn(Cause.TIMED_OUT), 1: Drawn(Cause.NO_ANSWER)}},
    )
    rounds.exclude(connection, added.id, {third: "too long"})
    found = evaluations.outcomes(connection, added.id)
    assert [(each.drawn, each.correct, each.without_verdict, each.tokens) for each in found] == [
        (2, 1, 0, 20), (2, 0, 1, 20), (0, 0, 0, 0), (0, 0, 0, 0),
    ]  # fmt: skip
    assert [(each.readable, each.exclusion) for each in found][2:] == [
        (True, "too long"),
        (False, "the reference answer cannot be read"),
    ]
    evaluations.finish(connection, added)
    (row,) = rows(connection, "SELECT * FROM evaluation_results")
    assert (row["accuracy"], row["unreadable"], row["left_out"], row["solved"]) == (0.125, 1, 1, 1)
    assert row["accuracy_readable"] == pytest.approx(0.5 / 3)
    assert (row["without_verdict"], row["mean_tokens"], row["truncated_share"]) == (1, 10, None)
    assert (row["temperature"], row["max_new_tokens"]) == (None, None)


Answers = list[tuple[str | None, bool]]
"""Of one problem: the answers of its samples by slot, and whether each is correct."""
VoteOn = Callable[[list[Answers]], tuple[Driver, Round, list[int]]]

HALVES = (r"\frac{1}{2}", "1/2", "0.5", "0.50")
BALLOTS: list[Answers] = [
    [*[("1", True)] * 3, *((half, False) for half in HALVES)],  # four equal wrong answers win
    [*[("1", True)] * 3, *((answer, False) for answer in ("7", "8", "9", "10"))],  # different ones do not
    [("1", True), ("0.5", False), ("1/2", False), ("1", True), (None, False), (None, False), (None, False)],
    [("0.5", False), ("1", True), ("1", True), ("1/2", False), (None, False), ("7", False), ("8", False)],
    [("7", False)] * 7,
    [(None, False)] * 7,
    [("1", True)] * 7,
]


@pytest.fixture
def vote_on(begin: Begin) -> VoteOn:
    """Makes an evaluation without decoding, a problem per ballot, all its samples verified."""

    def vote_on(ballots: list[Answers]) -> tuple[Driver, Round, list[int]]:
        driver = begin(iterations=0)
        with driver.database.begin() as connection:
            dataset = add_benchmark(connection, "benchmarks/amc23", len(ballots))
            spec = EvaluationSpec("m", dataset, 7, None)
            added = evaluations.add_evaluation(connection, driver.run.id, 0, driver.run.model_id, spec)
            evaluations.assign_all_problems(connection, added.id, dataset, None, 7)
            problems = list(datasets.statement_keys(connection, dataset))
            for problem, ballot in zip(problems, ballots, strict=True):
                causes = [RIGHT if correct else WRONG for _, correct in ballot]
                add_samples(connection, added.id, {problem: dict(enumerate(causes))})
                for slot, (answer, _) in enumerate(ballot):
                    connection.execute(
                        text(
                            "UPDATE samples SET answer = :answer WHERE problem_id = :problem AND slot = :slot"
                        ),
                        {"answer": answer, "problem": problem, "slot": slot},
                    )
        return driver, added, problems

    return vote_on


def is_pending(driver: Driver) -> bool:
    with driver.database.begin() as connection:
        return evaluations.pending(connection, driver.run.id, [driver.run.model_id])


def majority_votes(driver: Driver) -> dict[int, bool]:
    return {
        row.problem_id: row.correct for row in driver.rows("SELECT problem_id, correct FROM majority_votes")
    }


def test_an_evaluation_ends_with_its_votes_and_showing_it_verifies_nothing(
    vote_on: VoteOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, _, problems = vote_on(BALLOTS)
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


def test_the_last_verification_of_a_problem_votes_and_a_lost_vote_is_cast_again(vote_on: VoteOn) -> None:
    driver, added, (problem,) = vote_on(BALLOTS[:1])
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


def test_failed_votes_hold_an_evaluation_up_until_they_are_discarded(vote_on: VoteOn) -> None:
    driver, added, _ = vote_on(BALLOTS[-1:])
    driver.advance()
    driver.fail(driver.queued()[0])
    driver.work()
    assert is_pending(driver)
    with driver.database.begin() as connection:
        missing.discard_failed(connection, driver.run.id)
    driver.advance()
    assert not is_pending(driver)
    with driver.database.begin() as connection:
        (outcome,) = evaluations.outcomes(connection, added.id)
    assert (outcome.accuracy, outcome.majority) == (1, False)


# --- overlaps -------------------------------------------------------------------------------------


def add_overlapping(connection: Connection) -> tuple[int, int]:
    """Training problems: one equal to a benchmark's, one with thirteen of its words, two of their own."""
    words = " ".join(f"word{number}" for number in range(13))
    measured = datasets.ensure_dataset(connection, "benchmarks/gsm8k")
    datasets.add_problems(
        connection, measured, [Problem("What is 1+1?", "2"), Problem(words, "3")], [True] * 2
    )
    datasets.mark_benchmark(connection, measured, "gsm8k", "content")
    trained = datasets.ensure_dataset(connection, "train")
    statements = ["what is $1+1$ ?", f"First {words} then", "own", "What is 1-1?"]
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
    assert len(rows(connection, "SELECT * FROM problem_overlaps")) == 2
    for without, expected in ((False, 4), (True, 2)):
        assert rounds.count_unused_problems(connection, None, trained, without_overlaps=without) == expected


def test_an_import_tells_of_overlaps_among_its_new_problems(database: Database, tmp_path: Path) -> None:
    with database.begin() as connection:
        add_overlapping(connection)
    file = tmp_path / "more.jsonl"
    rows_of_file = [{"problem": "What is $1+1$?", "answer": "2"}, {"problem": "new", "answer": "3"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of_file))
    report = import_problems(database, file, ProblemFormat.MATH, "more")
    assert [(each.dataset, each.against, each.exact) for each in report.overlaps] == [
        ("more", "benchmarks/gsm8k", 1)
    ]
    for name in ("benchmarks/mine", "none"):
        with pytest.raises(BadInputError, match="kept for hsstar"):
            import_problems(database, file, ProblemFormat.MATH, name)
