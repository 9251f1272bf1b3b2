"""A recipe or a study says all that decides it; a wrong one is refused in a line that names the key."""

import json
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hsstar.domain.allocation.budget import Budget
from hsstar.domain.benchmarks import Decoding
from hsstar.domain.difficulty import Thresholds
from hsstar.domain.errors import RecipeError
from hsstar.recipe.documents import load_document, merged, parse_changes
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe
from hsstar.recipe.schema import recipe_schema
from hsstar.study.document import load_study
from tests.unit.tables import tables

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
CONFIGS = ROOT / "configs"
BOUNDS: dict[str, dict[str, Any]] = json.loads((FOLDER / "recipe_bounds.json").read_text())
"""Values just inside and just outside of what is legal, by key; `beside`: further keys of its section."""
TABLES = tables("recipe")
PUBLISHED: dict[str, dict[str, Any]] = json.loads((FOLDER / "shipped_recipes.json").read_text())
"""What `configs/hsstar.toml` changes of the defaults, and each other published recipe of `hsstar.toml`."""
STUDIES = {CONFIGS / "study.toml", CONFIGS / "real.toml"}
SHIPPED = sorted({*CONFIGS.glob("*.toml"), *ROOT.glob("hsstar/demo/*.toml")} - STUDIES)
DEFAULTS: dict[str, Any] = json.loads((FOLDER / "smallest_recipe.json").read_text())
"""The smallest recipe with the numbers of the method."""

SMALLEST: dict[str, Any] = {
    "name": "small",
    "problems": {"dataset": "numina", "per_iteration": 7500},
    "policy": {"model": "Qwen2.5-7B"},
    "reward": {"model": "prm"},
}
SERVER = {"base_url": "http://localhost:8000/v1", "model": "policy"}


def with_sections(**sections: Any) -> Recipe:
    """The smallest recipe with some keys of its sections replaced; None removes a key."""
    document = SMALLEST | {
        key: {**SMALLEST.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in sections.items()
    }
    return parse_recipe({key: value for key, value in document.items() if value is not None})


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a recipe by dotted key."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def write(folder: Path, **files: str) -> Path:
    """The first of some files, which are written as NAME.toml."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_bytes(text.encode(errors="surrogateescape"))
    return folder / f"{next(iter(files))}.toml"


def test_what_is_left_out_is_as_in_the_paper() -> None:
    recipe = with_sections()
    assert recipe.document() == DEFAULTS
    assert recipe.sampling.budget == Budget(8, 3)
    assert recipe.difficulty.thresholds == Thresholds(0.15, 0.65)
    assert recipe.problems.used
    assert not recipe.evaluation.used
    assert not with_sections(problems={"dataset": "none"}).problems.used


@pytest.mark.parametrize("key", BOUNDS)
def test_a_key_is_legal_up_to_its_bounds(key: str) -> None:
    section, _, name = key.rpartition(".")
    beside = BOUNDS[key].get("beside", {})

    def recipe_with(table: dict[str, Any]) -> Recipe:
        return with_sections(**({section: beside | table} if section else beside | table))

    usual = recipe_with({})
    for value in BOUNDS[key]["legal"]:
        recipe = recipe_with({name: value})
        assert flat(recipe.document()) == flat(usual.document()) | {key: value}
        assert parse_recipe(recipe.document()) == recipe
    for value in BOUNDS[key]["illegal"]:
        with pytest.raises(RecipeError, match=f"recipe: .*{section}"):
            recipe_with({name: value})


def test_every_number_of_a_recipe_has_its_bounds() -> None:
    numbers = {key for key, value in flat(DEFAULTS).items() if type(value) in (int, float)}
    assert numbers <= BOUNDS.keys()


def test_uniform_sampling_makes_every_sample_a_pre_sample() -> None:
    assert with_sections(sampling={"strategy": "uniform"}).sampling.budget == Budget(8, 8)


def test_without_a_reward_model_the_other_signals_do() -> None:
    other = {"difficulty": {"signal": "accuracy"}, "pairs": {"rule": "random"}}
    assert not with_sections(reward={"model": "none"}, **other).reward.used


def test_a_function_splits_steps_where_the_rule_says_so() -> None:
    for function, source in (
        ("my steps.py:split", "…"),
        ("../my.py:a.b", "…"),
        ("package.module:split", None),
    ):
        table = {"rule": "python", "function": function}
        assert with_sections(steps=table | {"source": source}).steps.trained == table
        with pytest.raises(RecipeError, match=r"is of a file, and its text \(source\) is missing|names none"):
            with_sections(steps=table | {"source": None if source else "…"})
    assert with_sections(steps={"rule": "numbered"}).steps.trained == {"rule": "numbered"}
    for refused in ("split", ":split", "my-steps:split", "my_steps.py:1", "a b.c:d"):
        with pytest.raises(RecipeError, match=r"recipe: steps\.function: .* should match pattern"):
            with_sections(steps={"rule": "python", "function": refused})
    for table in ({"rule": "python"}, {"function": "my_steps.py:split"}):
        with pytest.raises(RecipeError, match="steps: function belongs to rule = 'python', which needs it"):
            with_sections(steps=table)


def test_a_reward_engine_gets_the_keys_that_are_its_own() -> None:
    usual = with_sections(reward={"batch_tokens": 8192}).reward
    assert usual.engine_options == {"batch_tokens": 8192, "attention": "auto"}
    pooled = with_sections(reward={"engine": "vllm", "vllm": {"max_num_batched_tokens": 8192}}).reward
    assert pooled.engine_options == {"max_num_batched_tokens": 8192}
    assert with_sections(reward={"engine": "vllm"}).reward.engine_options == {}


@pytest.mark.parametrize(("changes", "message"), TABLES["wrong"])
def test_a_wrong_recipe_names_the_key_and_what_is_legal(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as failure:
        with_sections(**changes)
    assert str(failure.value).startswith("recipe: ")
    assert "\n" not in str(failure.value)


def test_an_evaluation_draws_as_its_section_says() -> None:
    table = {"temperature": 0.5, "top_p": 0.75, "samples": 4, "max_new_tokens": 7}
    benchmark = {"name": "b", "problems": 3, **table}
    section = with_sections(evaluation={"dataset": "d", **table, "benchmarks": [benchmark]}).evaluation
    assert section.decoding == section.benchmarks[0].decoding == Decoding(0.5, 0.75, 4, 7)
    assert section.datasets == ["d", "b"]
    expected = "b, first 3, temperature 0.5, top-p 0.75, 4 samples, 7 tokens"
    assert section.benchmarks[0].evaluation_key == expected


def test_a_decoding_is_told_apart_by_each_of_its_keys() -> None:
    known = Decoding(0.5, 0.75, 4, 7)
    cuts: list[dict[str, Any]] = [{"top_k": 5}, {"min_p": 0.05}, {"repetition_penalty": 1.1}]
    said = {
        with_sections(evaluation={"benchmarks": [{"name": "b", **asdict(replace(known, **cut))}]})
        .evaluation.benchmarks[0]
        .evaluation_key: cut
        for cut in cuts
    }
    assert [key.removeprefix("b, temperature 0.5, top-p 0.75, ") for key in said] == [
        "top-k 5, 4 samples, 7 tokens",
        "min-p 0.05, 4 samples, 7 tokens",
        "repetition penalty 1.1, 4 samples, 7 tokens",
    ]
    greedy = replace(known, temperature=0.0, samples=1, top_k=5, min_p=0.05, repetition_penalty=1.1)
    assert greedy.shown == "greedy, repetition penalty 1.1, 7 tokens"


def test_the_last_temperature_of_a_wave_holds_for_the_rest() -> None:
    temperatures = {"temperature": 0.7, "wave_temperatures": [0.9, 1.2]}
    sampling = with_sections(sampling=temperatures, allocation={"policy": "pairs", "waves": 4}).sampling
    assert [sampling.temperature_of(wave) for wave in range(5)] == [0.7, 0.9, 1.2, 1.2, 1.2]
    assert [with_sections().sampling.temperature_of(wave) for wave in range(3)] == [0.7] * 3


def test_the_table_of_the_engine_is_what_it_is_started_with() -> None:
    table = {"max_num_seqs": 8, "kv_cache_dtype": "fp8", "hf_overrides": {"a": [1, None]}}
    recipe = with_sections(policy={"engine": "vllm", "vllm": table})
    assert recipe.policy.engine_options == table
    assert parse_recipe(recipe.document()) == recipe
    for engine in ("transformers", "vllm"):
        assert with_sections(policy={"engine": engine}).policy.engine_options == {}


def test_a_server_is_told_of_new_policies_or_serves_one() -> None:
    recipe = with_sections(policy={"engine": "openai", "openai": SERVER | {"options": {"top_k": 5}}})
    usual = {"concurrency": 64, "timeout_seconds": 600, "reload": "none"} | {
        "protocol": "completions",
        "logprobs": True,
    }
    assert recipe.policy.engine_options == SERVER | usual | {"options": {"top_k": 5}}
    assert recipe.policy.one_policy_only
    assert parse_recipe(recipe.document()) == recipe
    told = {"engine": "openai", "openai": SERVER | {"reload": "vllm"}}
    assert not with_sections(policy=told, evaluation={"dataset": "heldout"}).policy.one_policy_only
    kept = {"policy": {"engine": "openai", "openai": SERVER}, "training": {"objective": "none"}}
    assert with_sections(**kept, evaluation={"dataset": "heldout"}).policy.one_policy_only


def test_an_engine_of_ones_own_is_an_import_path_with_options() -> None:
    own = {"engine": "my_package.samplers:Remote", "options": {"retries": 3}}
    recipe = with_sections(policy=own)
    assert (recipe.policy.engine, recipe.policy.engine_options) == (own["engine"], own["options"])
    assert parse_recipe(recipe.document()) == recipe
    for engine, message in (
        ("vlm", "expected transformers, vllm, openai or package.module:Class, got 'vlm'"),
        ("samplers.py:Remote.draw", "or package.module:Class"),
    ):
        with pytest.raises(RecipeError, match=re.escape(message)):
            with_sections(policy={"engine": engine})
    with pytest.raises(RecipeError, match="is for an engine of yours, and engine is 'vllm'"):
        with_sections(policy={"engine": "vllm", "options": {"retries": 3}})


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        with_sections().sampling.n = 9


def test_a_file_is_read_and_its_top_keys_can_be_replaced(tmp_path: Path) -> None:
    lines = (f"{key} = {json.dumps(value)}" for key, value in flat(SMALLEST).items())
    file = write(tmp_path, small="\n".join(lines))
    assert load_recipe(file) == with_sections()
    assert load_recipe(file, {"name": "other", "seed": 3}) == with_sections(name="other", seed=3)


def test_tables_are_merged_and_other_values_replaced(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        child='extends = "base.toml"\nlist = [3]\n[a]\nx = 5\n[a.deep]\nk = 1\n[b]\nnew = true',
        base='kept = "yes"\nlist = [1, 2]\n[a]\nx = 1\ny = 2\n[a.deep]\nk = 0\nl = 0',
    )
    assert load_document(path) == {
        "kept": "yes", "list": [3], "a": {"x": 5, "y": 2, "deep": {"k": 1, "l": 0}}, "b": {"new": True},
    }  # fmt: skip


def test_a_base_may_extend_a_further_one_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", middle='extends = "root.toml"\ny = 2', root="x = 1\ny = 1\nz = 1")
    assert load_document(write(tmp_path, top='extends = "below/middle.toml"\nz = 3')) == {
        "x": 1,
        "y": 2,
        "z": 3,
    }


def test_merging_changes_neither_side() -> None:
    base, changes = {"a": {"x": 1}}, {"a": {"y": 2}}
    assert merged(base, changes) == {"a": {"x": 1, "y": 2}}
    assert (base, changes) == ({"a": {"x": 1}}, {"a": {"y": 2}})


def test_the_demo_can_be_extended_and_the_stored_recipe_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, mine='extends = "builtin:demo"\nname = "mine"\n[sampling]\nn_p = 2')
    recipe = load_recipe(path, {"seed": 7})
    assert (recipe.name, recipe.seed, recipe.sampling.n, recipe.sampling.n_p) == ("mine", 7, 8, 2)
    assert recipe.policy.model == "builtin:demo-policy"
    assert "extends" not in recipe.document()


@pytest.mark.parametrize(("files", "message"), TABLES["wrong files"])
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as failure:
        load_recipe(write(tmp_path, **files))
    assert str(failure.value).startswith(str(tmp_path))
    assert "\n" not in str(failure.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"/none\.toml: no such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_changes_what_it_is_about_and_nothing_else(name: str) -> None:
    found = flat(load_recipe(CONFIGS / f"{name}.toml").document())
    assert found == flat(DEFAULTS) | PUBLISHED["hsstar"] | PUBLISHED[name]


def test_every_recipe_is_known_and_has_a_name_of_its_own() -> None:
    others = {"demo", "first", "real-first", *(file.stem for file in STUDIES)}
    assert {file.stem for file in CONFIGS.glob("*.toml")} == PUBLISHED.keys() | others
    assert len({changes["name"] for changes in PUBLISHED.values()}) == len(PUBLISHED)


def test_the_study_compares_at_equal_samples_and_at_equal_steps() -> None:
    study = load_study(CONFIGS / "study.toml")
    strategies = ["HS-STaR", "uniform", "accuracy-only", "reward-only", "knapsack", "stop-1+1"]
    strategies += ["pairs-cap-4", "pairs-fading"]
    both = [*strategies, *(f"{strategy}-rows" for strategy in strategies)]
    assert list(study.document.strategies) == both
    assert len(study.document.seeds) >= 10
    assert study.document.iterations == 3
    by_strategy = {run.strategy: run.recipe for run in study.of_seed(study.document.seeds[0])}
    for name in strategies:
        recipe, at_equal_steps = by_strategy[name], by_strategy[f"{name}-rows"]
        assert (recipe.sampling.n, recipe.sampling.n_p) == (8, 3)
        rows = recipe.training.model_copy(update={"rows": 640, "epochs": 1})
        renamed = {"training": rows, "name": at_equal_steps.name}
        assert at_equal_steps == recipe.model_copy(update=renamed)
    assert by_strategy["uniform"].sampling.budget.pre_samples == 8
    assert [level.value for level in by_strategy["uniform"].trained_levels] == [
        "inlier",
        "boundary",
        "outlier",
    ]


def test_the_real_run_compares_at_equal_samples_and_equal_rows() -> None:
    study = load_study(CONFIGS / "real.toml")
    assert (len(study.document.seeds), study.document.iterations) == (3, 3)
    for run in study.runs:
        recipe = run.recipe
        assert (recipe.problems.per_iteration, recipe.sampling.n, recipe.training.rows) == (200, 8, 160)
        assert (recipe.training.learning_rate, recipe.training.nll_weight) == (3e-6, 1.0)
        assert (recipe.reward.model, recipe.pairs.rule, recipe.training.objective) == (
            "prm",
            "highest-reward",
            "dpo",
        )


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


STUDY = """
name = "s"
seeds = [3, 1]
iterations = 2
reference = "uniform"
problems = "demo"
[recipe]
extends = "builtin:demo"
evaluation = { problems = 30 }
[strategies.HS-STaR]
[strategies.uniform]
sampling.strategy = "uniform"
difficulty.train = ["inlier", "boundary", "outlier"]
"""


def study_file(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in STUDY
    return write(folder, study=STUDY.replace(old, new, 1))


def test_every_strategy_runs_under_every_seed(tmp_path: Path) -> None:
    study = load_study(study_file(tmp_path))
    assert [(run.name, run.seed, run.recipe.seed) for run in study.runs] == [
        ("s-HS-STaR-3", 3, 3), ("s-uniform-3", 3, 3), ("s-HS-STaR-1", 1, 1), ("s-uniform-1", 1, 1),
    ]  # fmt: skip
    assert [run.strategy for run in study.of_seed(1)] == ["HS-STaR", "uniform"]


def test_strategies_differ_from_the_recipe_in_their_changes_only(tmp_path: Path) -> None:
    plain, uniform = (run.recipe.document() for run in load_study(study_file(tmp_path)).of_seed(3))
    assert plain["evaluation"]["problems"] == 30
    assert uniform["sampling"].pop("strategy") == "uniform"
    assert uniform["difficulty"].pop("train") == ["inlier", "boundary", "outlier"]
    del plain["sampling"]["strategy"], plain["difficulty"]["train"], plain["name"], uniform["name"]
    assert plain == uniform


@pytest.mark.parametrize(("old", "new", "message"), tables("study")["refused"])
def test_a_wrong_study_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_study(study_file(tmp_path, old, new))
    assert "\n" not in str(error.value)


CHANGES: list[tuple[list[str], dict[str, Any] | str]] = [
    (["seed=3", "sampling.n = 16"], {"seed": 3, "sampling": {"n": 16}}),
    (["sampling.n=16", "sampling.top_p=1.0"], {"sampling": {"n": 16, "top_p": 1.0}}),
    (["policy.model=Qwen/Qwen2.5-7B"], {"policy": {"model": "Qwen/Qwen2.5-7B"}}),
    (['evaluation.benchmarks=["gsm8k"]'], {"evaluation": {"benchmarks": ["gsm8k"]}}),
    (["name=a=b"], {"name": "a=b"}),
    (["seed"], "--set seed: expected KEY=VALUE"),
    (["=3"], "--set =3: expected KEY=VALUE"),
    (["sampling..n=3"], "expected KEY=VALUE"),
    (["sampling=3", "sampling.n=3"], "another --set gives 'sampling' a value of its own"),
]


@pytest.mark.parametrize(("changes", "expected"), CHANGES, ids=[" ".join(changes) for changes, _ in CHANGES])
def test_keys_are_changed_by_texts(changes: list[str], expected: dict[str, Any] | str) -> None:
    if isinstance(expected, dict):
        assert parse_changes(changes) == expected
    else:
        with pytest.raises(RecipeError, match=expected):
            parse_changes(changes)


def test_changes_leave_the_other_keys_of_a_table() -> None:
    packaged = load_recipe(Path("builtin:demo"))
    changed = load_recipe(Path("builtin:demo"), parse_changes(["sampling.n=9", "name=other"]))
    before, after = flat(packaged.document()), flat(changed.document())
    assert {key for key in before if before[key] != after[key]} == {"sampling.n", "name"}
    with pytest.raises(RecipeError, match=r"^no recipe 'builtin:dmo'; .*did you mean 'builtin:demo'\?$"):
        load_recipe(Path("builtin:dmo"))


def test_a_mistyped_key_is_told_with_the_one_that_is_meant() -> None:
    with pytest.raises(RecipeError, match=r"tau_low, train; did you mean 'tau_high'\?$"):
        with_sections(difficulty={"tau_hi": 0.5})


SCHEMA = Draft202012Validator(recipe_schema())


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA.schema)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_schema_takes_every_recipe_as_it_is_written_and_as_it_is_stored(file: Path) -> None:
    assert [*SCHEMA.iter_errors(tomllib.loads(file.read_text()))] == []
    assert [*SCHEMA.iter_errors(load_recipe(file).document())] == []


@pytest.mark.parametrize(
    "changes",
    [{"sampling": {"n": 0}}, {"samplng": {}}, {"policy": {}},
     {"evaluation": {"benchmarks": [{"samples": 2}]}}, {"difficulty": {"train": ["hard"]}}, {"name": None}],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses_what_is_no_recipe(changes: dict[str, Any]) -> None:
    document = {key: value for key, value in (SMALLEST | changes).items() if value is not None}
    assert [*SCHEMA.iter_errors(document)] != []


@pytest.mark.parametrize(
    "changes", [{"sampling": {"n": 0}}, {"samplng": {}}, {"policy": {"modle": "x"}}], ids=str
)
def test_the_schema_checks_what_a_recipe_changes_of_another(changes: dict[str, Any]) -> None:
    assert [*SCHEMA.iter_errors({"extends": "base.toml", "policy": {}, "name": "x"})] == []
    assert [*SCHEMA.iter_errors({"extends": "base.toml"} | changes)] != []
