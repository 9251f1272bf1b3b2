"""The life of a run: forked, renamed, compared, held, resumed, archived and deleted, by its commands."""

import json
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from hsstar.cli.main import hsstar
from tests.cli.conftest import CommandLine, enqueue, working
from tests.store.factory import add_problems, claim


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


@pytest.mark.slow
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


def test_a_run_is_paused_resumed_cancelled_and_archived(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker(job_samples=6).conductor.sweep()
    with cli.database.begin() as connection:
        claim(connection, cli.rows("SELECT min(id) FROM jobs")[0][0])
    assert cli.ok("runs", "pause", "r") == (
        "r is paused; 1 running jobs end first; continue it: hsstar runs resume r\n"
    )
    (status,) = cli.json("status")
    assert (status["state"], status["jobs_queued"], status["jobs_running"]) == ("paused", 0, 1)
    assert [run["held"] for run in cli.json("runs", "list")] == ["paused"]
    assert "r is held (paused): paused by " in cli("iterate", "r").err
    assert cli.ok("runs", "resume", "r").startswith("r continues; it was held: paused by ")
    cli.worker(job_samples=6).conductor.sweep()
    assert cli.ok("runs", "cancel", "r").startswith("r is cancelled; 1 running jobs stop with their batch; ")
    assert cli.rows("SELECT count(*) FROM jobs") == [(0,)]
    assert cli.ok("runs", "archive", "r") == "r is archived; bring it back: hsstar runs resume r\n"
    assert (cli.json("runs", "list"), cli.json("status")) == ([], [])
    assert [run["held"] for run in cli.json("runs", "list", "--all")] == ["archived"]
    cli.ok("runs", "resume", "r")
    cli.worker().work()
    assert cli.json("status")[0]["state"] == "done"
    cli.ok("runs", "rename", "r", "renamed")
    assert [run["run"] for run in cli.json("runs", "list")] == ["renamed"]
    assert "did you mean 'renamed'?" in cli.refused("status", "renamd")


def test_a_deletion_says_what_goes_and_asks(two_done: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = two_done
    cli.ok("runs", "fork", "r", "--from", "1", "--name", "f")
    refused = cli.refused("runs", "delete", "r", "--dry-run")
    assert refused.startswith("f shares iterations of run 'r'; delete the fork first, or archive the run")
    cli.ok("runs", "delete", "f", "--yes")
    said = cli.ok("runs", "delete", "r", "--dry-run").splitlines()
    assert said[0].startswith("r: 2 iterations, 3 evaluations, ")
    assert said[1].startswith("policies: r-M1, r-M2 (")
    asked = list[str]()
    answers = iter((click.exceptions.Abort(), None))

    def confirm(question: str, abort: bool) -> None:
        asked.append(question)
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(click, "confirm", confirm)
    assert cli("runs", "delete", "r").code == 130
    assert cli.rows("SELECT count(*) FROM runs WHERE held IS NULL") == [(1,)]
    assert cli.ok("runs", "delete", "r").splitlines()[-1] == "r is deleted"
    assert asked == ["Delete r?"] * 2
    assert cli.rows("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM samples)") == [(0, 0)]
    assert not (cli.folder / "models" / "r" / "M1").exists()


def test_runs_are_compared_by_recipe_data_and_figures(two_done: CommandLine) -> None:
    cli = two_done
    assert cli.ok("runs", "diff", "r", "r") == "r and r do not differ\n"
    cli.ok("runs", "fork", "r", "--from", "1", "--set", "sampling.n=6", "--set", "seed=5", "--name", "f")
    cli.ok("iterate", "f")
    cli.worker().work()
    rows = cli.json("runs", "diff", "r", "f")
    found = {(row["part"], row["name"]): (row["first"], row["second"]) for row in rows}
    assert found["recipe", "sampling.n"] == (4, 6)
    assert found["recipe", "seed"] == (0, 5)
    drawn = dict(cli.rows("SELECT run, drawn FROM iteration_statistics WHERE iteration = 1"))
    assert found["figures", "iteration 1: drawn"] == (drawn["r"], drawn["f"])
    (slice_,) = [row for row in rows if row["name"].startswith("problems of iteration")]
    assert (slice_["part"], slice_["first"], slice_["second"]) == ("data", 4, 4)
    assert slice_["name"].startswith("problems of iteration 1 (")
    heading = cli.ok("runs", "diff", "r", "f").splitlines()[0]
    assert heading.split() == ["what", "r", "f"]


def test_policies_that_nothing_needs_free_their_disk(two_done: CommandLine) -> None:
    cli = two_done
    first = cli.folder / "models" / "r" / "M1"
    cli.ok("runs", "fork", "r", "--from", "1", "--name", "f")
    assert cli.ok("models", "prune").splitlines()[-1] == "0 checkpoints can go: 0 bytes"
    cli.ok("runs", "delete", "f", "--yes")
    before = cli.csv("report", "r")
    shown = cli.ok("models", "prune", "--dry-run")
    assert "run r continues from it" in shown
    assert shown.splitlines()[-1].startswith("1 checkpoints can go: ")
    assert first.is_dir()
    (first.parent / ".pruned-before").mkdir()  # by a call that was killed
    assert cli.ok("models", "prune", "--yes").splitlines()[-1].startswith("1 checkpoints deleted: ")
    assert [path.name for path in first.parent.iterdir()] == ["M2"]
    assert cli.csv("report", "r") == before
    assert "r-M1" in cli.ok("models", "lineage")
    cli.ok("iterate", "r")
    cli.worker().work()
    assert [row["state"] for row in iterations(cli, "r")] == ["done"] * 3


@pytest.mark.slow
def test_texts_of_old_samples_go_and_what_was_found_stays(two_done: CommandLine) -> None:
    cli = two_done
    texts = "SELECT count(*) FROM sample_responses"
    in_pairs = "SELECT count(*) * 2 FROM preference_pairs"
    ((all_texts,),), ((kept,),) = cli.rows(texts), cli.rows(in_pairs)
    statistics, table = iterations(cli, "r"), cli.csv("report", "r")
    pairs = cli.ok("export", "pairs", "r")
    assert 0 < kept < all_texts
    assert cli.ok("samples", "prune", "--before", "2020-01-01").startswith("0 samples can lose")
    shown = cli.ok("samples", "prune", "--before", "2999-01-01", "--dry-run")
    assert shown.splitlines()[-1].startswith(f"{all_texts - kept} samples can lose their text: ")
    assert cli.rows(texts) == [(all_texts,)]
    said = cli.ok("samples", "prune", "--before", "2999-01-01", "--keep", "pairs", "--yes")
    assert said.splitlines()[-1] == f"{all_texts - kept} samples have lost their text"
    assert cli.rows(texts) == [(kept,)]
    assert (iterations(cli, "r"), cli.csv("report", "r")) == (statistics, table)
    assert cli.ok("export", "pairs", "r") == pairs
    exported = cli("export", "samples", "r")
    assert len(exported.out.splitlines()) == kept
    assert "samples have no text any more (hsstar samples prune) and are left out" in exported.err
    judged = cli.json("reverify", "r", "--dry-run")
    assert [row["judged"] for row in judged] == [0] * len(judged)
    assert all(row["without_text"] > 0 for row in judged)
    assert "has lost texts" in cli.refused("train", "prm", "--run", "r", "--output", "prm")
    assert cli.ok("samples", "prune", "--before", "2999-01-01", "--yes").startswith("0 samples can lose")
    cli.ok("iterate", "r")
    cli.worker().work()
    assert [row["state"] for row in iterations(cli, "r")] == ["done"] * 3


def test_evaluations_are_listed_apart_from_runs(two_done: CommandLine) -> None:
    cli = two_done
    with working(cli):
        cli.ok("evaluate", "r-M1", "--benchmarks", "demo-heldout", "--max-new-tokens", "9")
    (listed,) = cli.json("evaluations", "list")
    assert listed == listed | {"model": "r-M1", "benchmark": "demo-heldout", "state": "done", "problems": 5}
    assert [run["run"] for run in cli.json("runs", "list")] == ["r"]
    assert [run["run"] for run in cli.json("status")] == ["r"]
    assert f"run {listed['run']} begins with it" in cli.ok("models", "prune")
    assert "by which it is found again" in cli.refused("runs", "rename", listed["run"], "other")
    cli.ok("runs", "delete", listed["run"], "--yes")
    assert cli.json("evaluations", "list") == []


def test_a_shell_completes_the_names_of_runs_and_policies(two_done: CommandLine) -> None:
    def completed(*words: str) -> list[str]:
        *before, last = words
        return [item.value for item in ShellComplete(hsstar, {}, "hsstar", "").get_completions(before, last)]

    assert completed("status", "r") == completed("runs", "delete", "") == ["r"]
    assert completed("models", "export", "r-") == ["r-M2", "r-M1"]
    assert completed("export", "pairs", "--format", "jsonl", "x") == []


def test_what_is_asked_of_a_fork_sees_the_iterations_that_it_shares(two_done: CommandLine) -> None:
    cli = two_done
    cli.ok(
        "runs", "fork", "r", "--from", "1", "--set", "sampling.n=6", "--set", "sampling.n_p=3", "--name", "f"
    )
    first, *others = cli.ok("status", "f").splitlines()
    assert first == "f is forked from r, iteration 1, and shares those before it"
    assert others == ["f has no iteration yet; start it: hsstar iterate f --watch"]
    replayed = [cli.json("allocate", run, "--dry-run", "--iteration", "0") for run in ("r", "f")]
    assert replayed[0] == replayed[1]
    assert cli.json("calibrate", "r", "f") == cli.json("calibrate", "r") != cli.json("calibrate", "f")
    own = cli.json("runs", "diff", "r", "f")
    assert {row["name"] for row in own if row["part"] == "recipe"} == {
        "sampling.n", "sampling.n_p", "fork.run", "fork.iteration"
    }  # fmt: skip
    assert [row["name"] for row in own if row["part"] == "data"] == [
        "problems of iteration 1 (0 in common)"
    ]  # what both share does not differ, and M_1 is the same policy
    assert not [row for row in own if row["name"].startswith("iteration 0")]
    exported = [json.loads(line) for line in cli.ok("export", "iterations", "f").splitlines()]
    assert [row["iteration"] for row in exported] == [0]
    assert cli.csv("report", "f", "--iterations") == cli.csv("report", "r", "--iterations")[:1]
