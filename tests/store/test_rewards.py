"""Several rewards: each is scored and kept, what they come to is that of plain Python, failures are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.commands.rewards import refuse_uncounted
from hsstar.commands.runs import create_run
from hsstar.domain.errors import BadInputError, HsstarError, RecipeError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.rewards import Aggregation, RewardRule, RewardUse, aggregate, combine
from hsstar.engines.registry import build_scorer
from hsstar.insights.samples import list_samples, steps_of
from hsstar.recipe.recipe import load_recipe
from hsstar.recipe.reward import RewardSection
from hsstar.stages import score
from hsstar.stages.context import ComputeError
from hsstar.store import models, rewards, runs, samples
from hsstar.store.database import Database
from hsstar.store.rewards import SampleReward
from tests.engines import tiny
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.driver import call, rows
from tests.store.factory import Drawn, add_problems, add_samples, make_recipe, select
from tests.store.noting import NotingRewardModel, make_context
from tests.store.test_refused_values import work

steps = st.lists(st.floats(0, 1), max_size=4).map(tuple)
rules = st.builds(RewardRule, st.sampled_from(RewardUse), st.floats(1e-3, 1e3), st.sampled_from(Aggregation))


def sections(of: Mapping[str, RewardRule]) -> list[dict[str, Any]]:
    """The rewards of a recipe by name, each with a model of its own."""
    return [
        {"name": name, "model": name, "use": rule.use, "weight": rule.weight, "aggregate": rule.aggregation}
        for name, rule in of.items()
    ]


def recipe_of(*named: dict[str, Any], **others: Any) -> Any:
    """A recipe of rewards that may be of any use."""
    uses = [RewardUse(section.get("use", "both")) for section in named]
    signal = "accuracy-and-reward" if any(use.labels for use in uses) else "accuracy"
    rule = "highest-reward" if any(use.ranks for use in uses) else "random"
    return make_recipe(
        **{"reward": {}, "difficulty": {"signal": signal}, "pairs": {"rule": rule}, "rewards": named} | others
    )


@examples(60)
@given(st.lists(st.tuples(rules, steps), min_size=1, max_size=4), st.integers(0, 3))
def test_what_rewards_come_to_is_that_of_plain_python(
    scratch: Scratch, made: list[tuple[RewardRule, tuple[float, ...]]], late: int
) -> None:
    """A sample waits for its last reward, and a second run changes nothing."""
    of = {f"r{place}": rule for place, (rule, _) in enumerate(made)}
    given_steps = {f"r{place}": own for place, (_, own) in enumerate(made)}
    last = f"r{late % len(made)}"
    with scratch() as connection:
        run, sample = add_sample(connection, recipe_of(*sections(of)))
        ids = dict(zip(of, factory.reward_ids(connection, run), strict=True))
        for name in [*(of.keys() - {last}), last]:
            assert rows_of_sample(connection) == (None, None)
            rewards.write(connection, ids[name], [SampleReward(sample, given_steps[name], False)])
            for _ in range(2):
                rewards.combine(connection, run.id, "w", [sample])
        expected = combine(given_steps, of)
        found = rows_of_sample(connection)
        assert found[0] == pytest.approx(expected.difficulty, rel=1e-12, abs=1e-300)
        ranked = found[0] if found[1] is None else found[1]
        assert ranked == pytest.approx(expected.pairs, rel=1e-12, abs=1e-300)
        assert select(connection, "SELECT scored FROM sample_counts WHERE worker = 'w'")[-1] == (1,)
        values = dict(select(connection, "SELECT reward, value FROM sample_rewards WHERE in_force"))
        by_python = {name: aggregate(given_steps[name], rule.aggregation) for name, rule in of.items()}
        assert values == pytest.approx(by_python, rel=1e-12, abs=1e-300)


def add_sample(connection: Connection, recipe: Any) -> tuple[runs.Run, int]:
    """A run with one sample, and its id."""
    run = factory.add_run(connection, recipe)
    (problem,) = add_problems(connection, 1)
    iteration = factory.add_iteration(connection, run, [problem])
    add_samples(connection, iteration.id, {problem: {0: Drawn()}}, worker="drawer")
    return run, select(connection, "SELECT max(id) FROM samples")[0][0]


def rows_of_sample(connection: Connection) -> tuple[Any, Any]:
    (row,) = select(connection, "SELECT min_reward, pair_reward FROM samples")
    return row[0], row[1]


@pytest.mark.parametrize("aggregation", Aggregation)
def test_one_reward_of_weight_one_is_exactly_its_aggregate(
    connection: Connection, aggregation: Aggregation
) -> None:
    """To the last bit, as `[reward]` has always been."""
    run, sample = add_sample(connection, make_recipe(reward={"model": "prm", "aggregate": aggregation}))
    own = (0.1 + 0.2, 1e-99, 1 / 3)
    factory.write_rewards(connection, run, [SampleReward(sample, own, False)])
    expected = aggregate(own, aggregation)
    rel = 0 if aggregation in (Aggregation.MIN, Aggregation.LAST) else 1e-15
    assert rows_of_sample(connection) == (pytest.approx(expected, rel=rel, abs=0), None)


NAMED: list[dict[str, Any]] = [
    {"name": "prm", "model": "builtin:demo-prm", "aggregate": "mean", "use": "both", "weight": 3.0},
    {"name": "outcome", "use": "difficulty"},
    {"name": "brevity", "kind": "length", "target": 5, "limit": 25, "use": "pairs"},
    {"name": "boxed", "kind": "format", "pattern": r"\\boxed\{[^}]+\}$", "use": "record"},
    {"name": "answers", "kind": "format", "use": "record"},
]
RESPONSES = ["Three and four are 7.\n\n\\boxed{7}", "1 + 1 = 2\n\nThe answer is 2.", "", "no answer"]


def add_scoring(database: Database, tmp_path: Path) -> tuple[runs.Run, Any, dict[int, str]]:
    """A run with two real reward models and three rules, its claimed job, and the responses by sample."""
    named = [section | {} for section in NAMED]
    named[1]["model"] = str(tiny.tiny_classifier(tmp_path, labels=1))
    policy = {"model": "builtin:demo-policy", "prompt": "bare"}
    training = {"problems": {"dataset": "train", "per_iteration": 2}, "policy": policy}
    with database.begin() as connection:
        ids = add_problems(connection, 2)
    run = create_run(database, recipe_of(*named, **training), "several")
    with database.begin() as connection:
        round_id = factory.add_iteration(connection, run, ids).id
        drawn = {
            problem: {
                slot: Drawn(response=text, tokens=5 * (slot + 1)) for slot, text in enumerate(RESPONSES)
            }
            for problem in ids
        }
        add_samples(connection, round_id, drawn)
        job_id = factory.add_job(connection, round_id, JobKind.SCORE, {problem: range(4) for problem in ids})
        texts = dict(select(connection, "SELECT sample_id, response FROM sample_responses"))
        return run, factory.claim(connection, job_id), texts


def test_a_job_scores_its_samples_by_every_reward_of_its_run(database: Database, tmp_path: Path) -> None:
    run, job, texts = add_scoring(database, tmp_path)
    score.run(make_context(database, reward_model=build_scorer), job)
    by_name = {reward.name: reward.rule for reward in call(database, rewards.list_of_run, run.id)}
    found: dict[int, dict[str, list[float]]] = {}
    for row in rows(database, "SELECT sample_id, reward, step_rewards FROM sample_rewards"):
        found.setdefault(row.sample_id, {})[row.reward] = row.step_rewards
    assert len(found) == 8 and {tuple(sorted(own)) for own in found.values()} == {tuple(sorted(by_name))}
    for row in rows(database, "SELECT id, slot, min_reward, pair_reward FROM samples"):
        own = found[row.id]
        expected = combine(own, by_name)
        assert (row.min_reward, row.pair_reward) == pytest.approx((expected.difficulty, expected.pairs))
        assert own["brevity"] == [(1.0, 0.75, 0.5, 0.25)[row.slot]]
        assert own["boxed"] == [float(row.slot == 0)] and own["answers"] == [float(row.slot < 2)]
        assert len(own["prm"]) == (2, 2, 0, 1)[row.slot]
        assert len(own["outcome"]) == (texts[row.id] != "")
    shown = rows(database, "SELECT step_rewards FROM responses ORDER BY sample_id")
    assert [row.step_rewards for row in shown] == [found[sample]["prm"] for sample in sorted(found)]
    kinds = "SELECT reward, kind, model FROM sample_rewards GROUP BY 1, 2, 3 ORDER BY 1"
    assert [tuple(row)[:2] for row in rows(database, kinds)] == [
        ("answers", "format"), ("boxed", "format"), ("brevity", "length"), ("outcome", "outcome"),
        ("prm", "skywork"),
    ]  # fmt: skip
    assert call(database, samples.load_unscored, job) == []


def test_an_attempt_after_a_failure_computes_what_is_missing(database: Database, tmp_path: Path) -> None:
    _, job, _ = add_scoring(database, tmp_path)
    built: dict[str, NotingRewardModel] = {}

    def build(location: str, section: RewardSection) -> Any:
        if not section.has_model:
            return build_scorer(location, section)
        built[section.model] = NotingRewardModel(location, section)
        return built[section.model]

    context = make_context(database, reward_model=build)
    context.engines.reward_models(asked(database))
    first, second = built.values()
    second.fails_with = ValueError("broken")
    with pytest.raises(ComputeError, match="broken"):
        score.run(context, job)
    assert rows(database, "SELECT DISTINCT reward FROM sample_rewards") == [("prm",)]
    assert rows(database, "SELECT count(min_reward) FROM samples") == [(0,)]
    second.fails_with = None
    score.run(context, job)
    assert (len(first.requests), len(second.requests)) == (8, 16)
    assert rows(database, "SELECT count(min_reward) FROM samples") == [(8,)]


def asked(database: Database) -> list[Any]:
    """The reward models of the run with their sections, as a stage asks for them."""
    run = call(database, runs.find_run, "several")
    needed = call(database, rewards.list_of_run, run.id)
    registered = [call(database, models.get_reward_model, of.reward_model_id) for of in needed]
    return [*zip(registered, run.recipe.scoring, strict=True)]


@pytest.mark.slow
def test_a_reward_that_fails_names_itself_and_the_sample_and_spares_the_neighbours(
    database: Database,
) -> None:
    named = [
        {"name": "brevity", "kind": "length"},
        {"name": "slow", "kind": "format", "pattern": "(a|aa|aaa)+b", "use": "record"},
    ]
    with database.begin() as connection:
        run = factory.add_run(connection, recipe_of(*named))
        factory.execute(connection, "UPDATE reward_models SET family = 'length', location = name")
        (problem,) = add_problems(connection, 1)
        round_id = factory.add_iteration(connection, run, [problem]).id
        drawn = {slot: Drawn(response="short b") for slot in range(4)}
        drawn[1] = Drawn(response="a" * 60)
        drawn[2] = Drawn(response="imported", tokens=None)
        add_samples(connection, round_id, {problem: drawn})
        factory.add_job(connection, round_id, JobKind.SCORE, {problem: range(4)})
        slow, imported = (
            row for (row,) in select(connection, "SELECT id FROM samples WHERE slot IN (1, 2) ORDER BY slot")
        )
    failed = dict(work(database, JobKind.SCORE, reward_model=build_scorer)[::-1])
    errors = [
        error for (error,) in rows(database, "SELECT error FROM jobs WHERE state = 'failed' ORDER BY 1")
    ]
    assert failed and len(errors) == 2
    assert f"reward 'brevity', sample {imported}: its tokens are not counted" in errors[0]
    assert f"reward 'slow', sample {slow}: the pattern timed out" in errors[1]
    assert rows(database, "SELECT slot FROM samples WHERE min_reward IS NOT NULL ORDER BY 1") == [(0,), (3,)]


def test_one_model_with_two_sets_of_engine_keys_is_refused(database: Database) -> None:
    named = [
        {"name": "one", "model": "builtin:demo-prm"},
        {"name": "other", "model": "builtin:demo-prm", "dtype": "float32"},
    ]
    policy = {"model": "builtin:demo-policy", "prompt": "bare"}
    call(database, add_problems, 8)
    with pytest.raises(BadInputError, match="rewards 'one' and 'other' name one model with different keys"):
        create_run(database, recipe_of(*named, policy=policy), "refused")


SOURCE = """
def brevity(response, reference, problem):
    if response == "raise":
        raise KeyError("no such key")
    if response == "nothing":
        return None
    if response == "nan":
        return float("nan")
    if response == "two":
        return 2
    if response == "exit":
        import os
        os._exit(1)
    return [0.25, 0.5] if response == "steps" else problem.endswith(reference)


def words(response):
    return ["elsewhere"] if response == "wrong" else response.split(" ", 1)


def two(response, reference):
    return 1.0
"""
BREVITY = {"name": "brevity", "kind": "python", "function": "my.py:brevity", "source": SOURCE}
WORDS = {"rule": "python", "function": "my.py:words", "source": SOURCE}
OF_DEMO = {"policy": {"model": "builtin:demo-policy", "prompt": "bare"}}
FAILURES = {
    "raise": "KeyError: 'no such key' (line 4 of my.py)",
    "nothing": "it returned NoneType None; a reward is a number from 0 to 1",
    "nan": "it returned float nan; a reward",
    "two": "it returned int 2; a reward",
    "exit": "my.py:brevity crashed",
}


def test_a_function_of_the_user_gives_rewards_and_its_failures_are_named(database: Database) -> None:
    responses = ["steps", "fine", *FAILURES]
    (problem,) = call(database, add_problems, 1)
    sections = {"problems": {"dataset": "train", "per_iteration": 1}} | OF_DEMO
    run = create_run(database, recipe_of(BREVITY, **sections), "by-function")
    with database.begin() as connection:
        round_id = factory.add_iteration(connection, run, [problem]).id
        drawn = {slot: Drawn(response=response) for slot, response in enumerate(responses)}
        add_samples(connection, round_id, {problem: drawn})
        factory.add_job(connection, round_id, JobKind.SCORE, {problem: range(len(responses))})
    errors = [error for _, error in work(database, JobKind.SCORE, reward_model=build_scorer)]
    for response, failure in FAILURES.items():
        assert any(failure in error for error in errors), (response, errors)
    assert len(errors) == len(FAILURES) and all("reward 'brevity', sample " in error for error in errors)
    scored = rows(database, "SELECT slot, step_rewards, value FROM sample_rewards ORDER BY slot")
    assert [tuple(row) for row in scored] == [(0, [0.25, 0.5], 0.25), (1, [1.0], 1.0)]
    assert rows(database, "SELECT kind, model FROM sample_rewards LIMIT 1") == [("python", "my.py:brevity")]


def test_a_function_of_the_user_splits_responses(database: Database) -> None:
    (problem,) = call(database, add_problems, 1)
    sections = {"problems": {"dataset": "train", "per_iteration": 1}, "steps": WORDS} | OF_DEMO
    run = create_run(database, make_recipe(reward={"model": "builtin:demo-prm"}, **sections), "split")
    with database.begin() as connection:
        round_id = factory.add_iteration(connection, run, [problem]).id
        texts = ["one two\n\nthree", "wrong"]
        add_samples(
            connection, round_id, {problem: {slot: Drawn(response=t) for slot, t in enumerate(texts)}}
        )
        factory.add_job(connection, round_id, JobKind.SCORE, {problem: range(2)})
    ((_, error),) = work(database, JobKind.SCORE, reward_model=build_scorer)
    assert "steps of sample " in error and "step 1 ('elsewhere') is not a text of the response" in error
    page = list_samples(database, "split").samples
    assert [[step.text for step in steps_of(sample)] for sample in page] == [
        ["one", "two\n\nthree"],
        ["wrong"],
    ]
    assert [len(sample.step_rewards or ()) for sample in page] == [2, 0]


@pytest.mark.parametrize(
    ("function", "source", "message"),
    [
        ("my.py:two", SOURCE, "expected a function of response, reference, problem, found"),
        ("my.py:three", SOURCE, "there is no 'three' in it"),
        ("my.py:brevity", "import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("nowhere.at_all:brevity", None, "nowhere"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_before_the_run(
    database: Database, function: str, source: str | None, message: str
) -> None:
    call(database, add_problems, 8)
    reward = BREVITY | {"function": function, "source": source}
    with pytest.raises(HsstarError, match=message):
        create_run(database, recipe_of(reward, **OF_DEMO), "refused")


def test_the_text_of_a_functions_file_is_kept_with_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(SOURCE)
    (tmp_path / "r.toml").write_text(
        'name = "r"\nproblems = { dataset = "train", per_iteration = 1 }\npolicy = { model = "m" }\n'
        'steps = { rule = "python", function = "my.py:words" }\n'
        '[[rewards]]\nname = "brevity"\nkind = "python"\nfunction = "my.py:brevity"\n'
    )
    recipe = load_recipe(tmp_path / "r.toml")
    assert recipe.scoring[0].source == recipe.steps.source == SOURCE
    (tmp_path / "my.py").unlink()
    with pytest.raises(RecipeError, match=r"rewards\.0\.function: .*my\.py cannot be read|steps\.function"):
        load_recipe(tmp_path / "r.toml")


def test_imported_samples_have_no_length() -> None:
    refuse_uncounted(recipe_of(BREVITY))
    with pytest.raises(BadInputError, match="the reward 'short' counts tokens, and imported samples have no"):
        refuse_uncounted(recipe_of(BREVITY, {"name": "short", "kind": "length"}))
