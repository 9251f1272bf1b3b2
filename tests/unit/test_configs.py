"""The recipes in configs/: the paper's numbers, and each comparison in what it changes only."""

from pathlib import Path
from typing import Any

import pytest

from hsstar.recipe.recipe import load_recipe
from hsstar.study.document import load_study

CONFIGS = Path(__file__).parents[2] / "configs"

PAPER: dict[str, Any] = {
    "problems.per_iteration": 7500,
    "policy.prompt": "qwen25-step-cot",
    "sampling.strategy": "hierarchical",
    "sampling.n": 8,
    "sampling.n_p": 3,
    "sampling.temperature": 0.7,
    "sampling.top_p": 0.95,
    "sampling.max_new_tokens": 2048,
    "reward.model": "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B",
    "difficulty.signal": "accuracy-and-reward",
    "difficulty.tau_low": 0.15,
    "difficulty.tau_high": 0.65,
    "difficulty.resample": ["boundary"],
    "difficulty.train": ["boundary"],
    "pairs.rule": "highest-reward",
    "pairs.at_most_per_problem": None,
    "training.objective": "dpo",
    "training.learning_rate": 5e-7,
    "training.batch_size": 256,
    "training.epochs": 1.0,
    "training.scheduler": "cosine",
    "training.warmup_ratio": 0.03,
    "training.beta": 0.1,
    "training.maximum_tokens": 2048,
    "training.dtype": "bfloat16",
    "evaluation.temperature": 0.0,
    "evaluation.max_new_tokens": 2048,
}
"""METHOD's numbers as keys of a recipe."""


def _trained_on(*levels: str) -> dict[str, Any]:
    return {"difficulty.resample": list(levels), "difficulty.train": list(levels)}


CHANGES: dict[str, dict[str, Any]] = {
    "hsstar": {},
    "hsstar-skywork-1.5b": {
        "reward.model": "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B",
        "difficulty.tau_low": 0.25,
        "difficulty.tau_high": 0.50,
    },
    "hsstar-qwen-math-prm": {
        "reward.model": "Qwen/Qwen2.5-Math-PRM-7B",
        "difficulty.tau_low": 0.55,
        "difficulty.tau_high": 0.99,
    },
    "uniform": {
        "sampling.strategy": "uniform",
        "difficulty.train": ["inlier", "boundary", "outlier"],
    },
    "accuracy-only": {"difficulty.signal": "accuracy"},
    "reward-only": {"difficulty.signal": "reward"},
    "train-inlier": _trained_on("inlier"),
    "train-outlier": _trained_on("outlier"),
    "train-inlier-boundary": _trained_on("inlier", "boundary"),
    "train-inlier-outlier": _trained_on("inlier", "outlier"),
    "train-boundary-outlier": _trained_on("boundary", "outlier"),
    "qwen2.5-3b": {"policy.model": "./Qwen2.5-3B-M0"},
    "one-gpu": {
        "policy.engine": "vllm",
        "training.lora_rank": 64,
        "training.lora_alpha": 128.0,
        "training.lora_target_modules": [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ],
        "training.gradient_checkpointing": True,
        "training.learning_rate": 5e-6,
        "training.micro_batch_size": 2,
    },
}
"""What each recipe on the paper's problems changes of `hsstar.toml`."""


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A recipe's values by dotted key."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def recipe_of(name: str) -> dict[str, Any]:
    return flat(load_recipe(CONFIGS / f"{name}.toml").document())


def test_every_recipe_is_listed_here() -> None:
    assert {file.stem for file in CONFIGS.glob("*.toml")} == CHANGES.keys() | {"demo", "first", "study"}


@pytest.mark.parametrize("name", CHANGES)
def test_a_recipe_has_the_papers_numbers_but_for_what_it_is_about(name: str) -> None:
    found = recipe_of(name)
    wanted = PAPER | CHANGES[name]
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", CHANGES)
def test_a_recipe_changes_nothing_else(name: str) -> None:
    base, found = recipe_of("hsstar"), recipe_of(name)
    assert base.keys() == found.keys()
    differing = {key: value for key, value in found.items() if value != base[key]}
    assert differing == CHANGES[name] | ({"name": found["name"]} if name != "hsstar" else {})


def test_names_are_distinct() -> None:
    names = [recipe_of(name)["name"] for name in CHANGES]
    assert len(set(names)) == len(names)


def test_the_study_compares_at_equal_budget_with_a_baseline_that_trains_on_every_pair() -> None:
    study = load_study(CONFIGS / "study.toml")
    assert list(study.document.strategies) == [
        "HS-STaR", "uniform", "accuracy-only", "reward-only", "inlier", "outlier",
    ]  # fmt: skip
    assert len(study.document.seeds) >= 5
    assert study.document.iterations == 3
    assert {(run.recipe.sampling.n, run.recipe.sampling.n_p) for run in study.runs} == {(8, 3)}
    assert len({run.recipe.training for run in study.runs}) == 1
    uniform = next(run.recipe for run in study.runs if run.strategy == "uniform")
    assert uniform.sampling.budget.pre_samples == 8
    assert [level.value for level in uniform.difficulty.train] == ["inlier", "boundary", "outlier"]
