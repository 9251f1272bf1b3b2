"""A recipe says everything that decides a run; a wrong one is refused in a line that names the key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.budget import Budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds
from hsstar.domain.errors import RecipeError
from hsstar.domain.preference import PairRule
from hsstar.recipe import Recipe, load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
SHIPPED = sorted([*ROOT.glob("configs/*.toml"), *ROOT.glob("hsstar/demo/*.toml")])

SMALLEST: dict[str, Any] = {
    "name": "small",
    "problems": {"dataset": "numina", "per_iteration": 7500},
    "policy": {"model": "Qwen2.5-7B"},
    "reward": {"model": "prm"},
}


def with_sections(**sections: Any) -> Recipe:
    return parse_recipe(merged(SMALLEST, sections))


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document with some keys of its sections replaced; None removes a key."""
    result = dict(document)
    for key, value in changes.items():
        if isinstance(value, dict):
            result[key] = {**result.get(key, {}), **value}
        else:
            result[key] = value
    return {key: value for key, value in result.items() if value is not None}


def test_what_is_left_out_is_as_in_the_paper() -> None:
    recipe = with_sections()
    assert recipe.sampling.budget == Budget(8, 3)
    assert (recipe.sampling.temperature, recipe.sampling.top_p) == (0.7, 0.95)
    assert recipe.sampling.max_new_tokens == 2048
    assert recipe.policy.prompt == "qwen25-step-cot"
    assert recipe.difficulty.signal is Signal.ACCURACY_AND_REWARD
    assert recipe.difficulty.thresholds == Thresholds(0.15, 0.65)
    assert recipe.difficulty.resample == recipe.difficulty.train == (Difficulty.BOUNDARY,)
    assert recipe.pairs.rule is PairRule.HIGHEST_REWARD
    training = recipe.training
    assert (training.objective, training.learning_rate, training.beta) == ("dpo", 5e-7, 0.1)
    assert (training.batch_size, training.epochs, training.warmup_ratio) == (256, 1, 0.03)
    assert (training.scheduler, training.maximum_tokens) == ("cosine", 2048)
    assert recipe.evaluation.dataset is None
    assert recipe.evaluation.temperature == 0


def test_uniform_sampling_makes_every_sample_a_pre_sample() -> None:
    assert with_sections(sampling={"strategy": "uniform"}).sampling.budget == Budget(8, 8)


def test_without_a_reward_model_the_other_signals_do() -> None:
    recipe = with_sections(
        reward={"model": "none"}, difficulty={"signal": "accuracy"}, pairs={"rule": "random"}
    )
    assert not recipe.reward.used


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("rule", PairRule)
@pytest.mark.parametrize("strategy", ["hierarchical", "uniform"])
def test_a_stored_recipe_is_read_back_as_it_was(signal: Signal, rule: PairRule, strategy: str) -> None:
    recipe = with_sections(
        seed=7,
        difficulty={"signal": signal, "resample": ["boundary", "outlier"]},
        pairs={"rule": rule},
        sampling={"strategy": strategy, "stop": ["\n\n\n"]},
    )
    document = recipe.document()
    assert parse_recipe(document) == recipe
    assert parse_recipe(document).document() == document


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-12, 1))
def test_numbers_are_kept_exactly(first: float, second: float, rate: float) -> None:
    low, high = sorted((first, second))
    if low < high:
        recipe = with_sections(
            difficulty={"tau_low": low, "tau_high": high}, training={"learning_rate": rate}
        )
        assert parse_recipe(recipe.document()) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samplng": {}}, "unknown key 'samplng'; legal keys there: difficulty, evaluation, name, pairs"),
        (
            {"reward": {"modle": "x"}},
            "unknown key 'reward.modle'; legal keys there: dtype, model",
        ),
        ({"name": None}, "key 'name' is missing"),
        ({"problems": None}, "key 'problems' is missing"),
        ({"problems": {"dataset": ""}}, "problems.dataset: string should have at least 1 character, got ''"),
        ({"name": "two words"}, "name: string should match pattern"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
        ({"seed": 2**31}, "seed: input should be less than 2147483648, got 2147483648"),
        ({"problems": {"per_iteration": 0}}, "problems.per_iteration: .*greater than or equal to 1, got 0"),
        ({"problems": {"per_iteration": "many"}}, "problems.per_iteration: .*valid integer.*, got 'many'"),
        ({"policy": {"engine": "magic"}}, "policy.engine: input should be 'transformers'.*, got 'magic'"),
        (
            {"policy": {"prompt": "cot"}},
            "policy.prompt: unknown prompt template; legal values: bare, qwen25-step-cot, got 'cot'",
        ),
        ({"policy": {"dtype": "int4"}}, "policy.dtype: .*'auto', 'float32', 'bfloat16' or 'float16'"),
        (
            {"sampling": {"n_p": 9}},
            "sampling: n_p = 9 is more than n = 8; pre-samples are part of the budget",
        ),
        ({"sampling": {"n_p": 0}}, "sampling.n_p: .*greater than or equal to 1, got 0"),
        ({"sampling": {"strategy": "greedy"}}, "sampling.strategy: .*'hierarchical' or 'uniform'"),
        (
            {"sampling": {"temperature": -0.1}},
            r"sampling.temperature: .*greater than or equal to 0, got -0\.1",
        ),
        ({"sampling": {"top_p": 0}}, "sampling.top_p: .*greater than 0, got 0"),
        ({"sampling": {"top_p": 1.5}}, r"sampling.top_p: .*less than or equal to 1, got 1\.5"),
        (
            {"difficulty": {"signal": "mood"}},
            "difficulty.signal: .*'accuracy-and-reward', 'accuracy' or 'reward'",
        ),
        (
            {"difficulty": {"tau_low": 0.7}},
            r"difficulty: tau_low = 0\.7 and tau_high = 0\.65 must satisfy 0 ≤ tau_low < tau_high ≤ 1",
        ),
        ({"difficulty": {"train": []}}, "difficulty: train needs at least one of inlier, boundary, outlier"),
        ({"difficulty": {"train": ["middle"]}}, r"difficulty.train.0: .*'inlier', 'boundary' or 'outlier'"),
        ({"pairs": {"rule": "best"}}, "pairs.rule: .*'highest-reward' or 'random', got 'best'"),
        ({"pairs": {"at_most_per_problem": 0}}, "pairs.at_most_per_problem: .*greater than or equal to 1"),
        ({"training": {"objective": "ppo"}}, "training.objective: .*'dpo' or 'none', got 'ppo'"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: .*greater than 0, got 0"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: .*finite number"),
        ({"training": {"beta": float("nan")}}, "training.beta: .*finite number"),
        ({"evaluation": {"samples": 0}}, "evaluation.samples: .*greater than or equal to 1, got 0"),
        (
            {"reward": {"model": "none"}},
            "difficulty.signal = 'accuracy-and-reward' needs reward.model; "
            "name one, or set difficulty.signal = 'accuracy'",
        ),
        (
            {"reward": {"model": "none"}, "difficulty": {"signal": "accuracy"}},
            "pairs.rule = 'highest-reward' needs reward.model; name one, or set pairs.rule = 'random'",
        ),
        ({"seed": -1, "problems": {"per_iteration": 0}}, r"seed: .* \(and 1 more\)"),
    ],
)
def test_a_wrong_recipe_names_the_key_and_what_is_legal(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as failure:
        with_sections(**changes)
    assert str(failure.value).startswith("recipe: ")
    assert "\n" not in str(failure.value)


def test_a_section_that_is_no_table_is_named() -> None:
    with pytest.raises(RecipeError, match="recipe: sampling: input should be a valid dictionary"):
        with_sections(sampling=3)


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        with_sections().sampling.n = 9


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_read_and_its_top_keys_can_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\n[problems]\ndataset = "numina"\nper_iteration = 7500\n'
        '[policy]\nmodel = "Qwen2.5-7B"\n[reward]\nmodel = "prm"\n'
    )
    assert load_recipe(file) == with_sections()
    assert load_recipe(file, {"name": "other", "seed": 3}) == with_sections(name="other", seed=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such recipe file"),
        (b"name = ", "not TOML: "),
        (b"name = '\xff'", "cannot be read"),
        (b"name = 'small'", "key 'problems' is missing"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "small.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as failure:
        load_recipe(file)
    assert str(failure.value).startswith(f"{file}: ")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_recipes_can_be_read(file: Path) -> None:
    recipe = load_recipe(file)
    assert parse_recipe(recipe.document()) == recipe
