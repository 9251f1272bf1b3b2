"""`hsstar reverify` and `hsstar verdicts set`: what they print, and that it is what the rows say."""

import json
from pathlib import Path

import pytest

from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from tests.cli.conftest import CommandLine
from tests.store.factory import Drawn, add_evaluation, add_iteration, add_problems, add_run, add_samples

RIGHT = Drawn(Cause.INCORRECT, response=r"So it is \boxed{\frac{0}{3}}.")
"""What an earlier verifier did not see to be zero."""


@pytest.fixture
def judged(cli: CommandLine) -> CommandLine:
    """A run whose iteration waits for its reward, with one wrong verdict there, and one in an evaluation."""
    with cli.database.begin() as connection:
        zero, _ = problems = add_problems(connection, 2)
        run = add_run(connection, name="mine")
        iteration = add_iteration(connection, run, problems)
        add_samples(connection, iteration.id, {zero: {0: RIGHT, 1: Drawn(Cause.INCORRECT)}})
        evaluation = add_evaluation(connection, run, accuracy=0.0)
        add_problem = "INSERT INTO round_problems (round_id, problem_id, position, allotment)"
        connection.exec_driver_sql(f"{add_problem} VALUES ({evaluation}, {zero}, 0, 1)")
        add_samples(connection, evaluation, {zero: {0: RIGHT}})
    return cli


def test_each_round_is_a_row_and_each_change_a_line_of_the_file(judged: CommandLine) -> None:
    rows = judged.json("reverify", "mine", "--dry-run", "--output", "changes.jsonl")
    assert [(row["round"], row["judged"], row["verdicts"], row["in_force"]) for row in rows] == [
        ("iteration 0", 2, 1, 0), ("evaluation 0 key", 1, 1, 0)
    ]  # fmt: skip
    assert [(row["accuracy"], row["accuracy_again"]) for row in rows] == [(0.0, 0.25), (0.0, 1.0)]
    lines = [json.loads(line) for line in Path("changes.jsonl").read_text().splitlines()]
    ((problem, sample),) = judged.rows("SELECT problem_id, min(id) FROM samples GROUP BY 1")
    assert lines[0] == {
        "run": "mine", "round": "iteration 0", "problem_id": problem, "change": "verdict", "slots": [0],
        "before": "incorrect", "after": "correct", "sample_id": sample
    }  # fmt: skip
    assert len(lines) == 2
    assert judged.rows("SELECT count(*) FROM verdicts") == [(0,)]
    assert "changes.jsonl is there already" in judged.refused("reverify", "mine", "--output", "changes.jsonl")


def test_an_evaluation_gets_its_new_figure_at_once_where_that_is_wanted(judged: CommandLine) -> None:
    ((evaluation,),) = judged.rows("SELECT round_id FROM evaluation_results")
    chosen = ("reverify", "--evaluation", str(evaluation), "--by", "ann")
    for options, in_force, accuracy in (((), 0, 0.0), (("--change-evaluations",), 1, 1.0)):
        (row,) = judged.json(*chosen, *options)
        assert (row["verdicts"], row["in_force"]) == (1, in_force)
        assert judged.rows("SELECT state, accuracy FROM evaluation_results") == [("done", accuracy)]
    with MathVerifier(1) as present:
        version = present.version
    columns = "cause, verifier, author, in_force"
    history = judged.rows(f"SELECT {columns} FROM verdict_history ORDER BY in_force, cause DESC")
    later = [("correct", version, "ann", in_force) for in_force in (False, True)]
    assert history == [("incorrect", None, None, False), *later]


def test_a_correction_says_whether_it_is_in_force(judged: CommandLine) -> None:
    first, _, last = (id for (id,) in judged.rows("SELECT id FROM samples ORDER BY id"))
    said = judged.ok("verdicts", "set", str(first), "correct", "--why", "0/3 is 0")
    assert said.startswith(f"sample {first} (iteration 0 of mine, problem ")
    assert said.endswith(
        ", slot 0): incorrect → correct, kept beside the earlier one, which stays in force\n"
    )
    wanted = ("verdicts", "set", str(last), "correct", "--why", "0/3 is 0", "--change-evaluations")
    assert judged.ok(*wanted).endswith("incorrect → correct, in force\n")
    ((author, reason),) = set(
        judged.rows("SELECT author, reason FROM verdict_history WHERE reason IS NOT NULL")
    )
    assert "@" in author
    assert reason == "0/3 is 0"
    assert judged.rows("SELECT accuracy FROM evaluation_results") == [(1.0,)]
