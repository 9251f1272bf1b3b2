"""`[[sources]]`: what a source draws by, and that it says nothing of the policy."""

from typing import Any

import pytest

from hsstar.recipe.recipe import Recipe, parse_recipe
from tests.store.factory import make_recipe

SERVER = {"base_url": "http://teacher:8000/v1", "model": "t"}
SAMPLING = {
    "top_k": 5,
    "temperature": 0.7,
    "wave_temperatures": [0.9],
    "stop": ["\n\n\n"],
    "stop_token_ids": [3],
}


def taught(**keys: Any) -> Recipe:
    source = {"name": "teacher", "model": "T", "samples": 2} | keys
    return make_recipe(sampling=SAMPLING, evaluation={"dataset": "heldout"}, sources=[source])


def test_a_source_draws_by_its_own_keys_and_else_by_those_of_sampling() -> None:
    recipe = taught(temperature=1.0, top_k=0, prompt="bare", thinking="<t>,</t>", stop_token_ids=[7])
    drawn = recipe.drawn_by(recipe.sources[0])
    assert (drawn.policy.model, drawn.policy.prompt.template) == ("T", "bare")
    assert drawn.policy.thinking == recipe.thinking_of("teacher") == "<t>,</t>"
    assert recipe.thinking_of(None) == "auto"
    sampling = drawn.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (1.0, 0, 0.95)
    assert (sampling.stop, sampling.stop_token_ids, sampling.wave_temperatures) == (("\n\n\n",), (7,), ())
    assert not drawn.evaluation.used
    assert taught().drawn_by(taught().sources[0]).sampling.stop_token_ids == ()  # those are the policy's


def test_a_stored_recipe_says_the_same_of_its_sources() -> None:
    recipe = taught(temperature=0.25, engine="openai", openai=SERVER)
    stored = parse_recipe(recipe.document(), "stored")
    assert stored == recipe
    assert stored.drawn_by(stored.sources[0]) == recipe.drawn_by(recipe.sources[0])


@pytest.mark.parametrize("named", [None, "HSSTAR_T_API_KEY"])
def test_no_server_gets_the_key_of_another(named: str | None) -> None:
    server = SERVER if named is None else SERVER | {"key_variable": named}
    recipe = taught(engine="openai", openai=server)
    options = recipe.sources[0].policy.engine_options
    assert options["key_variable"] == (named or "HSSTAR_SOURCE_API_KEY")
    assert (
        "key_variable"
        not in make_recipe(policy={"model": "M0", "engine": "openai", "openai": SERVER}).policy.engine_options
    )


def test_one_folder_may_serve_two_models_of_a_server() -> None:
    """The folder has the tokenizer; the server knows its model by another name."""
    policy = {"model": "M", "engine": "openai", "openai": SERVER}
    teacher = {"name": "teacher", "samples": 1, "model": "M", "engine": "openai"}
    other = teacher | {"openai": SERVER | {"model": "u"}}
    assert make_recipe(policy=policy, sources=[other]).sources[0].served == ("M", "u")
