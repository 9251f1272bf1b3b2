"""A recipe says everything that decides a run; a wrong one is refused in a line that names the key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.allocation.budget import Budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds
from hsstar.domain.errors import RecipeError
from hsstar.domain.preference import PairRule
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "configs" / "study.toml"
SHIPPED = sorted({*ROOT.glob("configs/*.toml"), *ROOT.glob("hsstar/demo/*.toml")} - {STUDY})

SMALLEST: dict[str, Any] = {
    "name": "small",
    "problems": {"dataset": "numina", "per_iteration": 7500},
    "policy": {"model": "Qwen2.5-7B"},
    "reward": {"model": "prm"},
}


SERVER = {"base_url": "http://localhost:8000/v1", "model": "policy"}


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


def test_a_reward_engine_gets_the_keys_that_are_its_own() -> None:
    usual = with_sections(reward={"batch_tokens": 8192}).reward
    assert usual.engine_options == {"batch_tokens": 8192, "attention": "auto"}
    pooled = with_sections(reward={"engine": "vllm", "vllm": {"max_num_batched_tokens": 8192}}).reward
    assert pooled.engine_options == {"max_num_batched_tokens": 8192}
    assert with_sections(reward={"engine": "vllm"}).reward.engine_options == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"samplng": {}},
            "unknown key 'samplng'; legal keys there: difficulty, evaluation, initialisation, name, pairs",
        ),
        (
            {"reward": {"modle": "x"}},
            "unknown key 'reward.modle'; legal keys there: attention, batch_tokens, dtype, engine, kind",
        ),
        ({"name": None}, "key 'name' is missing"),
        ({"problems": None}, "key 'problems' is missing"),
        ({"problems": {"dataset": ""}}, "problems.dataset: string should have at least 1 character, got ''"),
        ({"name": "two words"}, "name: string should match pattern"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
        ({"seed": 2**31}, "seed: input should be less than 2147483648, got 2147483648"),
        ({"problems": {"per_iteration": 0}}, "problems.per_iteration: .*greater than or equal to 1, got 0"),
        ({"problems": {"per_iteration": "many"}}, "problems.per_iteration: .*valid integer.*, got 'many'"),
        (
            {"policy": {"engine": "magic"}},
            "policy.engine: input should be 'transformers'.*'vllm'.*, got 'magic'",
        ),
        (
            {"policy": {"prompt": "cot"}},
            "policy.prompt: unknown prompt template; legal values: bare, chat, qwen25-step-cot, got 'cot'",
        ),
        (
            {"policy": {"vllm": {"max_num_seqs": 8}}},
            r"policy: \[policy.vllm\] needs engine = 'vllm', and engine is 'transformers'",
        ),
        (
            {"policy": {"engine": "vllm", "vllm": {"tensor_parallel_size": 0}}},
            "policy.vllm.tensor_parallel_size: .*greater than or equal to 1, got 0",
        ),
        (
            {"policy": {"engine": "vllm", "vllm": {"gpu_memory_utilization": 1.5}}},
            "policy.vllm.gpu_memory_utilization: .*less than or equal to 1",
        ),
        (
            {"policy": {"engine": "openai"}},
            r"policy: engine = 'openai' needs \[policy.openai\] with base_url and model",
        ),
        (
            {"policy": {"openai": SERVER}},
            r"policy: \[policy.openai\] needs engine = 'openai', and engine is 'transformers'",
        ),
        (
            {"policy": {"engine": "openai", "openai": {"base_url": "http://u:p@host/v1", "model": "m"}}},
            "policy.openai.base_url: string should match pattern",
        ),
        (
            {"policy": {"engine": "openai", "openai": SERVER | {"options": {"top_k": 5, "seed": 1}}}},
            "policy.openai.options: 'seed' belongs to hsstar and cannot be set",
        ),
        (
            {"policy": {"engine": "openai", "openai": SERVER, "dtype": "bfloat16"}},
            "policy: the server decides dtype",
        ),
        (
            {"policy": {"engine": "openai", "openai": SERVER}, "evaluation": {"dataset": "heldout"}},
            "the server cannot load one; set reload = 'vllm', or leave evaluation.dataset out",
        ),
        (
            {"policy": {"engine": "openai", "openai": SERVER}, "evaluation": {"benchmarks": ["gsm8k"]}},
            "evaluation.benchmarks is measured for every new policy too",
        ),
        (
            {"policy": {"engine": "vllm", "vllm": {"lora": "adapter"}}},
            "policy.vllm.lora needs training.objective = 'none'",
        ),
        ({"reward": {"kind": "orm"}}, "reward.kind: .*'skywork', 'qwen-math' or 'outcome', got 'orm'"),
        ({"reward": {"batch_tokens": 0}}, "reward.batch_tokens: .*greater than or equal to 1, got 0"),
        (
            {"reward": {"engine": "vllm", "batch_tokens": 8192}},
            "reward: batch_tokens and attention need engine = 'transformers'",
        ),
        (
            {"reward": {"vllm": {"max_num_seqs": 8}}},
            r"reward: \[reward.vllm\] needs engine = 'vllm', and engine is 'transformers'",
        ),
        (
            {"reward": {"engine": "vllm", "vllm": {"lora": "adapter"}}},
            r"reward: lora belongs in \[policy.vllm\] only",
        ),
        (
            {"reward": {"engine": "vllm", "vllm": {"enable_prefix_caching": True}}},
            "reward: vllm.enable_prefix_caching belongs to hsstar and cannot be set",
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
        ({"training": {"objective": "ppo"}}, "training.objective: .*'dpo', 'sft' or 'none', got 'ppo'"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: .*greater than 0, got 0"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate: .*finite number"),
        ({"training": {"beta": float("nan")}}, "training.beta: .*finite number"),
        (
            {"training": {"loss_type": "dpo"}},
            "training.loss_type: .*'sigmoid', 'hinge', 'ipo', .*, got 'dpo'",
        ),
        (
            {"training": {"loss_type": "exo_pair"}},
            "training: loss_type = 'exo_pair' needs label_smoothing > 0",
        ),
        ({"training": {"label_smoothing": 0.1}}, "training: loss_type = 'sigmoid' has no label_smoothing"),
        ({"training": {"quantization": "4bit"}}, "training: quantization = '4bit' needs lora_rank"),
        (
            {"training": {"quantization": "4bit", "lora_rank": 8, "sharding": "fsdp2"}},
            "training: quantization = '4bit' needs sharding = 'none'",
        ),
        ({"training": {"sharding": "ddp"}}, "training.sharding: .*'none', 'fsdp2', 'zero2' or 'zero3'"),
        ({"training": {"save_every_steps": -1}}, "training.save_every_steps: .*greater than or equal to 0"),
        (
            {"initialisation": {"beta": 0.1}},
            "unknown key 'initialisation.beta'; legal keys there: batch_size",
        ),
        ({"evaluation": {"samples": 0}}, "evaluation.samples: .*greater than or equal to 1, got 0"),
        ({"evaluation": {"benchmarks": [{"problems": 3}]}}, "key 'evaluation.benchmarks.0.name' is missing"),
        (
            {"evaluation": {"benchmarks": ["gsm8k", {"name": "math500", "sampels": 2}]}},
            "unknown key 'evaluation.benchmarks.1.sampels'; legal keys there: max_new_tokens, name, problems",
        ),
        (
            {"evaluation": {"benchmarks": [{"name": "gsm8k", "samples": 4}]}},
            "evaluation.benchmarks.0: 4 samples at temperature 0 are all the same; give a temperature",
        ),
        (
            {"evaluation": {"benchmarks": ["gsm8k", {"name": "gsm8k", "max_new_tokens": 2048}]}},
            "evaluation.benchmarks: 'gsm8k, greedy, 2048 tokens' is listed twice",
        ),
        ({"problems": {"overlaps": "drop"}}, "problems.overlaps: .*'report' or 'exclude', got 'drop'"),
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


def test_the_table_of_the_engine_is_what_it_is_started_with() -> None:
    table = {"max_num_seqs": 8, "kv_cache_dtype": "fp8", "hf_overrides": {"a": [1, None]}}
    recipe = with_sections(policy={"engine": "vllm", "vllm": table})
    assert recipe.policy.engine_options == table
    assert parse_recipe(recipe.document()) == recipe


def test_a_server_is_told_of_new_policies_or_serves_one() -> None:
    recipe = with_sections(policy={"engine": "openai", "openai": SERVER | {"options": {"top_k": 5}}})
    assert recipe.policy.engine_options == SERVER | {
        "concurrency": 64, "timeout_seconds": 600, "reload": "none", "options": {"top_k": 5},
    }  # fmt: skip
    assert recipe.policy.one_policy_only
    assert parse_recipe(recipe.document()) == recipe
    told = {"engine": "openai", "openai": SERVER | {"reload": "vllm"}}
    assert not with_sections(policy=told, evaluation={"dataset": "heldout"}).policy.one_policy_only
    kept = {"policy": {"engine": "openai", "openai": SERVER}, "training": {"objective": "none"}}
    assert with_sections(**kept, evaluation={"dataset": "heldout"}).policy.one_policy_only


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_an_engine_without_a_table_has_no_options(engine: str) -> None:
    assert with_sections(policy={"engine": engine}).policy.engine_options == {}


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
        (None, "no such file"),
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


def test_benchmarks_are_decoded_by_their_protocol_where_nothing_else_is_said() -> None:
    given = ["gsm8k", "aime24", {"name": "amc23", "samples": 4}, "my own problems"]
    found = with_sections(evaluation={"benchmarks": given}).evaluation
    assert [each.evaluation_key for each in found.benchmarks] == [
        "gsm8k, greedy, 2048 tokens",
        "aime24, temperature 0.6, top-p 0.95, 32 samples, 2048 tokens",
        "amc23, temperature 0.6, top-p 0.95, 4 samples, 2048 tokens",
        "my own problems, greedy, 2048 tokens",
    ]
    assert found.datasets == ["benchmarks/gsm8k", "benchmarks/aime24", "benchmarks/amc23", "my own problems"]
    assert found.used


def test_initialisation_has_the_methods_defaults() -> None:
    section = with_sections().initialisation
    assert (section.learning_rate, section.maximum_tokens, section.batch_size) == (1e-6, 4096, 256)
    assert (section.epochs, section.scheduler, section.warmup_ratio, section.weight_decay) == (
        1.0,
        "cosine",
        0.03,
        0.0,
    )
