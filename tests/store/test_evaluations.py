"""Policies are measured on any number of datasets, each by its own decoding, through the rows of rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hsstar.commands.problems import import_problems
from hsstar.domain.benchmarks import Decoding
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.verdict import Cause
from hsstar.insights.evaluation import load_results, run_table
from hsstar.stages.context import load_context
from hsstar.store import contamination, datasets, evaluations, rounds
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT, EvaluationSpec
from hsstar.store.runs import Run
from tests.store.factory import (
    HELDOUT,
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_run,
    add_samples,
    claim,
    make_recipe,
)
from tests.store.hand import Hand, three_levels

RIGHT, WRONG = Drawn(Cause.CORRECT), Drawn(Cause.INCORRECT)
BENCHMARKS = ["quick", {"name": "amc23", "samples": 3, "max_new_tokens": 64}]


def add_benchmark(connection: Connection, name: str, count: int, unreadable: int = 0) -> int:
    """A benchmark's dataset: the last problems have references that cannot be read."""
    given = [Problem(f"{name} {number}", "1", subject=f"s{number % 2}") for number in range(count)]
    dataset = datasets.ensure_dataset(connection, name)
    datasets.add_problems(
        connection, dataset, given, [number < count - unreadable for number in range(count)]
    )
    datasets.mark_benchmark(connection, dataset, name.removeprefix("benchmarks/"), "content")
    return dataset


def start(database: Database) -> Run:
    """One iteration of a run that measures its policies on held-out problems and two benchmarks."""
    recipe = make_recipe(
        problems={"dataset": "train", "per_iteration": 12},
        sampling={"n": 6, "n_p": 2},
        evaluation={"dataset": HELDOUT, "benchmarks": BENCHMARKS},
    )
    with database.begin() as connection:
        add_problems(connection, 12)
        add_problems(connection, 5, HELDOUT)
        add_benchmark(connection, "benchmarks/amc23", 6, unreadable=2)
        add_problems(connection, 4, "quick")
        run = add_run(connection, recipe)
        rounds.add_iterations(connection, run, [0])
    return run


def rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(query)).mappings()]


def test_a_run_measures_every_policy_on_every_dataset_once(database: Database) -> None:
    start(database)
    hand = Hand(database, three_levels)
    hand.work()
    hand.work()
    with database.begin() as connection:
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


def test_the_table_of_a_run_has_a_row_per_policy_and_the_mean_of_its_benchmarks(database: Database) -> None:
    run = start(database)
    Hand(database, three_levels).work()
    table = run_table(database, run)
    assert (table.columns, table.benchmarks) == (("amc23", "quick", HELDOUT), 2)
    assert [(number, name) for number, name, _ in table.rows] == [(0, "M0"), (1, f"{run.name}-M1")]
    cells = [[cell and cell[0] for cell in row] for _, _, row in table.rows]
    assert all(value is not None for row in cells for value in row)
    assert table.mean(0) == pytest.approx((cells[0][0] + cells[0][1]) / 2)  # type: ignore[operator]


def test_an_unfinished_row_has_no_mean(database: Database) -> None:
    run = start(database)
    Hand(database).conductor.advance(run.id)
    table = run_table(database, run)
    assert [cells for _, _, cells in table.rows] == [(None, None, None)]
    assert table.mean(0) is None


def test_samples_are_drawn_as_the_evaluation_says(connection: Connection) -> None:
    run = add_run(connection, make_recipe(sampling={"n": 4, "n_p": 2, "stop": ["\n\n\n"]}))
    dataset = add_benchmark(connection, "benchmarks/amc23", 2)
    decoding = Decoding(0.6, 0.95, 32, 100)
    added = evaluations.add_evaluation(
        connection, run.id, 0, run.model_id, EvaluationSpec("m", dataset, 32, decoding)
    )
    job = claim(connection, add_job(connection, added.id))
    parameters = load_context(connection, job).parameters
    assert (parameters.temperature, parameters.top_p, parameters.max_new_tokens) == (0.6, 0.95, 100)
    assert parameters.stop == ("\n\n\n",)
    iteration = add_iteration(connection, run, add_problems(connection, 1))
    other = load_context(connection, claim(connection, add_job(connection, iteration.id))).parameters
    assert (other.temperature, other.max_new_tokens) == (0.7, 2048)


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


def test_the_vote_puts_equivalent_answers_together(database: Database) -> None:
    """Three of seven are right; the four wrong ones are ½ in four spellings, or all different."""
    with database.begin() as connection:
        run = add_run(connection)
        dataset = add_benchmark(connection, "benchmarks/amc23", 2)
        added = evaluations.add_evaluation(
            connection, run.id, 0, run.model_id, EvaluationSpec("m", dataset, 7, None)
        )
        evaluations.assign_all_problems(connection, added.id, dataset, None, 7)
        first, second = list(datasets.statement_keys(connection, dataset))
        causes = [RIGHT] * 3 + [WRONG] * 4
        add_samples(connection, added.id, {key: dict(enumerate(causes)) for key in (first, second)})
        for key, wrong in ((first, (r"\frac{1}{2}", "1/2", "0.5", "0.50")), (second, ("7", "8", "9", "10"))):
            for slot, answer in enumerate(("1", "1", "1", *wrong)):
                connection.execute(
                    text("UPDATE samples SET answer = :answer WHERE problem_id = :key AND slot = :slot"),
                    {"answer": answer, "key": key, "slot": slot},
                )
        evaluations.finish(connection, added)
    (result,) = load_results(database, run, [("amc23", "m")])
    assert result.figures.majority == 0.5  # four equal wrong answers win, four different ones do not
    assert result.figures.pass_at[7] == 1
    assert list(result.subjects) == ["s0", "s1"]


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


@pytest.mark.parametrize(("without", "expected"), [(False, 4), (True, 2)])
def test_iterations_pass_over_overlaps_on_demand(
    connection: Connection, without: bool, expected: int
) -> None:
    trained, measured = add_overlapping(connection)
    contamination.find_overlaps(connection, [trained], [measured])
    run = add_run(connection)
    assert rounds.count_unused_problems(connection, None, trained, without_overlaps=without) == expected
    rounds.add_iterations(connection, run, [0])
    (waiting,) = rounds.list_iterations(connection, run.id)
    taken = rounds.assign_slice(connection, waiting.round.id, trained, 0, None, 2, without_overlaps=without)
    assert taken == expected
