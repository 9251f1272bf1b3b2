"""The life of a run: forked, renamed, compared, held, resumed, archived and deleted, by its commands."""

import json
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.store.factory import add_problems


@pytest.fixture
def two_done(cli: CommandLine) -> CommandLine:
    """The run `r` after two iterations of four problems, evaluated on held-out ones; 16 problems in all."""
    with cli.database.begin() as connection:
        add_problems(connection, 16, "demo-train")
        add_problems(connection, 5, "demo-heldout")
    cli.ok("runs", "create", cli.recipe(), "--name", "r", "--set", "sampling.n=4", "--set", "sampling.n_p=2")
    cli.ok("iterate", "r", "--iterations", "2")
    cli.worker().work()
    return cli


def iterations(cli: CommandLine, run: str) -> list[dict[str, Any]]:
    query = f"SELECT * FROM iteration_statistics WHERE run = '{run}' ORDER BY iteration"
    rows: list[dict[str, Any]] = cli.json("sql", query)
    return rows


def evaluated(cli: CommandLine, run: str) -> list[int]:
    """The policies that a run has evaluated itself, by t."""
    query = (
        "SELECT number FROM rounds JOIN runs ON runs.id = run_id WHERE kind = 'evaluation' AND runs.name = "
    )
    return [number for (number,) in cli.rows(f"{query} '{run}' ORDER BY number")]


def test_a_fork_shares_what_is_before_it_and_goes_its_own_way(two_done: CommandLine) -> None:
    cli = two_done
    counts = "SELECT count(*) FROM samples"
    ((before,),) = cli.rows(counts)
    said = cli.ok("runs", "fork", "r", "--from", "1", "--set", "training.beta=0.2", "--name", "f")
    assert said == "run f forked from r, iteration 1; start it: hsstar iterate f --watch\n"
    assert cli.rows(counts) == [(before,)]
    recipe = json.loads(cli.ok("runs", "show", "f"))
    origin = json.loads(cli.ok("runs", "show", "r"))
    changed = {key for key in recipe if recipe[key] != origin[key]}
    assert changed == {"name", "training", "fork"}
    assert (recipe["fork"], recipe["training"]["beta"]) == ({"run": "r", "iteration": 1}, 0.2)
    assert cli.json("runs", "list")[1]["forked_from"] == "r, iteration 1"
    cli.ok("iterate", "f")
    cli.worker().work()
    first, second = iterations(cli, "r")
    (forked,) = iterations(cli, "f")
    same = ("iteration", "state", "model", "drawn", "pairs", "heldout_accuracy_before")
    assert {key: forked[key] for key in same} == {key: second[key] for key in same}
    assert forked["heldout_accuracy_before"] == first["heldout_accuracy_after"] is not None
    assert forked["output_model"] == "f-M2"
    settings = "SELECT settings ->> 'beta' FROM training_runs ORDER BY id DESC LIMIT 1"
    assert cli.rows(settings) == [("0.2",)]
    # the seed is the same, so is the slice; no problem of the shared iteration comes again
    slices = """
        SELECT runs.name, array_agg(problem_id ORDER BY position) FROM round_problems
        JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
        WHERE kind = 'iteration' GROUP BY runs.name, number ORDER BY runs.name, number
    """
    (_, own), (_, shared), (_, later) = cli.rows(slices)
    assert own == later
    assert not {*own} & {*shared}
    # M_1 is not evaluated again, and the report has every policy of the line
    assert evaluated(cli, "f") == [2]
    mine, theirs = cli.csv("report", "f"), cli.csv("report", "r")
    assert [row["model"] for row in mine] == ["builtin:demo-policy", "r-M1", "f-M2"], mine
    assert mine[:2] == theirs[:2]


def test_a_fork_of_a_fork_shares_both(two_done: CommandLine) -> None:
    cli = two_done
    cli.ok("runs", "fork", "r", "--from", "1", "--name", "f")
    cli.ok("iterate", "f")
    cli.worker().work()
    cli.ok("runs", "fork", "f", "--from", "2", "--name", "g")
    cli.ok("runs", "fork", "g", "--from", "1", "--name", "h")
    assert cli.refused("runs", "fork", "r", "--from", "3").startswith(
        "run 'r' has 2 finished iterations; fork it from one of 0 to 2"
    )
    cli.ok("iterate", "g")
    cli.worker().work()
    assert [(row["iteration"], row["model"]) for row in iterations(cli, "g")] == [(2, "f-M2")]
    samples = [json.loads(line) for line in cli.ok("export", "samples", "g").splitlines()]
    assert {row["iteration"] for row in samples} == {0, 1, 2}
    of_shared = {row["model"] for row in samples if row["iteration"] < 2}
    assert of_shared == {"builtin:demo-policy", "r-M1"}
    assert [row["model"] for row in cli.csv("report", "h")] == ["builtin:demo-policy", "r-M1"]


def test_a_fork_that_evaluates_otherwise_shares_no_evaluation(two_done: CommandLine) -> None:
    cli = two_done
    cli.ok("runs", "fork", "r", "--from", "1", "--set", "evaluation.problems=2", "--name", "f")
    cli.ok("iterate", "f")
    cli.worker().work()
    assert [row["model"] for row in cli.csv("report", "f")] == ["builtin:demo-policy", "r-M1", "f-M2"]
    assert evaluated(cli, "f") == [1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "1", "--set", "policy.model=other"), "policy.model stays"),
        (("--from", "1", "--set", "sampling.m=3"), "unknown key 'sampling.m'"),
        (("--from", "1", "--name", "r"), "there is already a run 'r'"),
        (
            ("--from", "2", "--set", "problems.per_iteration=40"),
            "8 usable problems that the run",
        ),
    ],
)
def test_a_fork_that_cannot_be_is_refused(
    two_done: CommandLine, options: tuple[str, ...], message: str
) -> None:
    assert message in two_done.refused("runs", "fork", "r", *options)
    assert two_done.rows("SELECT count(*) FROM runs") == [(1,)]


def test_the_recipe_of_a_fork_makes_no_new_run(two_done: CommandLine) -> None:
    changes = ("--set", "fork.run=r", "--set", "fork.iteration=1")
    refused = two_done.refused("runs", "create", two_done.recipe(), "--name", "other", *changes)
    assert refused.startswith("the recipe is of a fork of run 'r'; remove [fork]")
