"""`hsstar rescore`: what it says would differ is what the rules in SQL make of the other rewards."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.verdict import Cause
from hsstar.store import method, rounds, runs
from tests.cli.conftest import CommandLine, enqueue
from tests.engines import tiny
from tests.store.factory import Drawn, add_evaluation, add_samples, execute, select

LABELS = "SELECT problem_id, level FROM difficulty_labels"
PAIRS = """
    SELECT pairs.problem_id, chosen.slot, rejected.slot FROM preference_pairs AS pairs
    JOIN samples AS chosen ON chosen.id = chosen_sample_id
    JOIN samples AS rejected ON rejected.id = rejected_sample_id
"""
EVERYTHING: dict[str, Any] = {
    "difficulty": {"tau_low": 0.45, "tau_high": 0.55, "train": ["inlier", "boundary", "outlier"]}
}


@pytest.fixture
def trained(cli: CommandLine) -> CommandLine:
    """A run whose iteration is done, and a reward model of random weights in the folder `orm`."""
    enqueue(cli, **EVERYTHING)
    cli.worker().work()
    tiny.tiny_classifier(cli.folder / "orm", labels=1)
    return cli


def made_again(cli: CommandLine) -> tuple[dict[int, str], set[tuple[int, int, int]]]:
    """The labels and pairs that follow from the rewards that were added, as the statements make them."""
    with cli.database.begin() as connection:
        run = runs.find_run(connection, "r")
        iteration = rounds.list_iterations(connection, run.id)[0].round
        execute(
            connection,
            "UPDATE samples SET min_reward = value, pair_reward = NULL FROM sample_rewards "
            "WHERE sample_id = samples.id AND NOT in_force",
        )
        execute(connection, "DELETE FROM preference_pairs")
        execute(connection, "DELETE FROM difficulty_labels")
        method.label_problems(connection, run, iteration)
        method.build_pairs(connection, run, iteration)
        return dict(select(connection, LABELS)), set(select(connection, PAIRS))


@pytest.mark.slow
def test_labels_and_pairs_that_would_differ_are_those_of_the_method(trained: CommandLine) -> None:
    cli, command = trained, ("rescore", "r", "--reward", "orm")
    before = cli.rows("SELECT id, min_reward, pair_reward FROM samples ORDER BY id")
    models = cli.rows("SELECT name FROM reward_models ORDER BY id")
    (dry,) = cli.json(*command, "--dry-run")
    assert cli.rows("SELECT name FROM reward_models ORDER BY id") == models
    assert cli.rows("SELECT count(*) FROM sample_rewards WHERE NOT in_force") == [(0,)]
    (row,) = cli.json(*command, "--output", "changes.jsonl")
    assert row == dry
    assert (row["round"], row["scored"], row["known"], row["without_text"]) == ("iteration 0", 24, 0, 0)
    assert row["labels"] > 0 and row["pairs_gained"] > 0 and row["mean_before"] != row["mean_again"]
    assert cli.rows("SELECT id, min_reward, pair_reward FROM samples ORDER BY id") == before
    added = cli.rows("SELECT reward, kind, count(*) FROM sample_rewards WHERE NOT in_force GROUP BY 1, 2")
    assert added == [("reward", "outcome", 24)]
    (again,) = cli.json(*command)
    assert again == row | {"known": 24}  # nothing is computed twice
    labels, pairs = dict(cli.rows(LABELS)), set(cli.rows(PAIRS))
    said = [json.loads(line) for line in Path("changes.jsonl").read_text().splitlines()]
    relabelled, repaired = made_again(cli)
    changed: list[dict[str, Any]] = [change for change in said if change["change"] == "label"]
    assert {of["problem_id"]: (of["before"], of["after"]) for of in changed} == {
        problem: (level, relabelled[problem])
        for problem, level in labels.items()
        if relabelled[problem] != level
    }
    of_pairs = [change for change in said if change["change"] == "pair"]
    lost = {(of["problem_id"], *of["slots"]) for of in of_pairs if of["before"]}
    gained = {(of["problem_id"], *of["slots"]) for of in of_pairs if of["after"]}
    assert (lost, gained) == (pairs - repaired, repaired - pairs)
    assert (len(changed), len(lost), len(gained)) == (row["labels"], row["pairs_lost"], row["pairs_gained"])


def test_what_cannot_score_again_is_refused_in_a_line(trained: CommandLine) -> None:
    command = ("rescore", "r", "--reward")
    trained.ok(*command, "orm")
    with trained.database.begin() as connection:
        execute(connection, "UPDATE run_rewards SET in_force = NOT in_force, shown = NOT in_force")
    assert "gives the run 'r' its rewards already" in trained.refused(*command, "orm")
    assert "there is no such folder" in trained.refused(*command, "nowhere")
    assert "there is no run 'x'" in trained.refused("rescore", "x", "--reward", "orm")
    assert "say which one the model stands in for: --in-place-of NAME" in trained.refused(
        *command, "orm", "--in-place-of", "x"
    )
    assert trained.rows("SELECT count(*) FROM run_rewards") == [(2,)]


@pytest.mark.slow
def test_an_evaluation_is_scored_beside_and_nothing_follows(cli: CommandLine) -> None:
    enqueue(cli, **EVERYTHING, evaluation={"dataset": "train"})
    cli.worker().work()
    tiny.tiny_classifier(cli.folder / "orm", labels=1)
    state = "SELECT id, verdict, min_reward, pair_reward FROM samples ORDER BY id"
    results = "SELECT round_id, accuracy FROM evaluation_results ORDER BY round_id"
    before = cli.rows(state), cli.rows(results), cli.rows(LABELS), cli.rows(PAIRS)
    evaluation = before[1][0][0]
    command = ("rescore", "--evaluation", str(evaluation), "--reward", "orm")
    (dry,) = cli.json(*command, "--dry-run")
    assert cli.rows("SELECT count(*) FROM sample_rewards WHERE NOT in_force") == [(0,)]
    (row,) = cli.json(*command)
    assert row == dry
    scored = cli.rows(
        "SELECT value, verdict = 'correct' FROM sample_rewards JOIN samples ON samples.id = sample_id "
        f"WHERE round_id = {evaluation} AND measure = 'heldout' AND NOT in_force"
    )
    assert (row["round"], row["scored"], row["known"]) == ("evaluation 0 heldout", len(scored), 0)
    assert len(scored) == cli.rows(f"SELECT count(*) FROM samples WHERE round_id = {evaluation}")[0][0] > 0
    assert row["mean_before"] is None
    assert row["mean_again"] == pytest.approx(sum(value for value, _ in scored) / len(scored))
    right, wrong = ([value for value, of in scored if of is side] for side in (True, False))
    order = [(good > bad) + (good == bad) / 2 for good in right for bad in wrong]
    assert row["auc"] == pytest.approx(sum(order) / len(order))
    assert (row["labels"], row["pairs_lost"], row["pairs_gained"]) == (0, 0, 0)
    assert (cli.rows(state), cli.rows(results), cli.rows(LABELS), cli.rows(PAIRS)) == before
    (again,) = cli.json(*command)
    assert again == row | {"known": len(scored)}
    assert cli.refused("rescore", "--evaluation", "0", "--reward", "orm").startswith(
        "there is no evaluation 0;"
    )
    for wrong_call in (("rescore", "--reward", "orm"), ("rescore", "r", *command[1:])):
        assert "give RUN or --evaluation" in cli(*wrong_call).err


@pytest.mark.slow
def test_an_evaluation_is_scored_by_the_reward_of_its_run_too(trained: CommandLine) -> None:
    cli = trained
    cli.ok("rescore", "r", "--reward", "orm")
    with cli.database.begin() as connection:  # as if the run had it from the beginning
        execute(connection, "DELETE FROM run_rewards WHERE in_force")
        execute(connection, "UPDATE run_rewards SET in_force = true, shown = true")
        run = runs.find_run(connection, "r")
        evaluation = add_evaluation(connection, run)
        problem = select(connection, "SELECT min(id) FROM problems")[0][0]
        rounds.assign_problems(connection, evaluation, [problem], 2)
        drawn = {0: Drawn(Cause.CORRECT), 1: Drawn(Cause.INCORRECT, response="\\boxed{3}")}
        add_samples(connection, evaluation, {problem: drawn})
    assert "gives the run 'r' its rewards already" in cli.refused("rescore", "r", "--reward", "orm")
    (row,) = cli.json("rescore", "--evaluation", str(evaluation), "--reward", "orm")
    assert (row["scored"], row["known"], row["mean_before"]) == (2, 0, None)
    assert cli.rows("SELECT count(*) FROM sample_rewards WHERE measure = 'key' AND in_force") == [(2,)]
    assert cli.rows(f"SELECT count(min_reward) FROM samples WHERE round_id = {evaluation}") == [(0,)]
