"""What a run may ask of its prompt and of the engine that samples, checked before anything runs."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hsstar.cli.main import hsstar
from hsstar.commands.runs import create_run, start_iterations
from hsstar.domain.errors import CheckpointError, ConflictError
from hsstar.domain.prompts import render_prompt
from hsstar.engines.prompts import prompt_renderer
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import datasets, runs
from hsstar.store.database import Database
from tests.engines import tiny
from tests.store.factory import TRAIN, add_problems, add_run, make_recipe

POLICY = "builtin:demo-policy"
SERVER = {"base_url": "http://localhost:8000/v1", "model": "policy"}


def recipe_of(**policy: Any) -> Recipe:
    return make_recipe(
        policy={"model": POLICY} | policy,
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
    )


def test_a_policy_without_chat_template_is_refused_before_the_run(database: Database) -> None:
    with database.begin() as connection:
        add_problems(connection, 4)

    with pytest.raises(CheckpointError, match="has no chat template"):
        create_run(database, recipe_of(prompt="chat"), "chatty")

    with database.begin() as connection:
        assert runs.list_runs(connection) == []


def test_a_tokenizer_without_end_of_text_token_is_refused_before_a_run_that_trains(
    database: Database, tmp_path: Path
) -> None:
    policy = tiny.tiny_policy_without_end(tmp_path)
    with database.begin() as connection:
        add_problems(connection, 4)

    with pytest.raises(CheckpointError, match="no end-of-text token"):
        create_run(database, recipe_of(model=str(policy)), "endless")
    without_training = recipe_of(model=str(policy)).document() | {"training": {"objective": "none"}}

    assert create_run(database, parse_recipe(without_training), "sampled").name == "sampled"


def test_a_run_with_a_chat_template_is_created(database: Database, tmp_path: Path) -> None:
    policy = tiny.tiny_policy(tmp_path)
    tokenizer = tiny.qwen_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}\n"
    tokenizer.save_pretrained(policy)
    with database.begin() as connection:
        add_problems(connection, 4)

    run = create_run(database, recipe_of(model=str(policy), prompt="chat"), "chatty")

    assert run.recipe.policy.prompt == "chat"
    assert prompt_renderer("chat", policy)("1+1").startswith("1+1\n\nPlease reason")


@pytest.mark.parametrize(("reload", "count"), [("none", 2), ("vllm", 3)])
def test_a_server_that_cannot_load_weights_serves_one_iteration(
    reload: str, count: int, database: Database
) -> None:
    with database.begin() as connection:
        add_problems(connection, 12)
        run = add_run(connection, recipe_of(engine="openai", openai=SERVER | {"reload": reload}))

    if reload == "vllm":
        assert start_iterations(database, run, count) == [0, 1, 2]
        return
    with pytest.raises(ConflictError, match=r"iteration 1 of run .* or ask for one iteration"):
        start_iterations(database, run, count)
    assert start_iterations(database, run, 1) == [0]


def test_show_takes_the_first_problem_of_the_dataset(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as connection:
        add_problems(connection, 3)
        first = datasets.first_problem(connection, datasets.find_dataset(connection, TRAIN))
    url = database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("HSSTAR_DATABASE_URL", url)
    monkeypatch.setenv("HSSTAR_BROKER_URL", "redis://localhost:1/0")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'name = "shown"\n[problems]\ndataset = "{TRAIN}"\nper_iteration = 4\n'
        f'[policy]\nmodel = "{POLICY}"\nprompt = "bare"\n'
        '[difficulty]\nsignal = "accuracy"\n[pairs]\nrule = "random"\n'
    )

    shown = CliRunner().invoke(hsstar, ["prompts", "show", str(recipe)], catch_exceptions=False)

    assert shown.stdout == render_prompt("bare", first) == f"{TRAIN} problem 0\n"
