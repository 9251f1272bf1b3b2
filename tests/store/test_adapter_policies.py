"""Policies that are adapters, through the whole store: rows, lineage, export, places, pruning."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hsstar.checkpoints.adapters import read_base
from hsstar.checkpoints.resolve import base_location, check_policy, fingerprint
from hsstar.commands.delete_run import delete_run
from hsstar.commands.export_model import export_model
from hsstar.commands.models import add_model, check_recipe_policy, move_models
from hsstar.commands.prune_models import list_folders, prune_models
from hsstar.domain.errors import CheckpointError
from hsstar.engines.policies import load_merged
from hsstar.engines.training.trl import TrlTrainer
from hsstar.insights.models import find_lineage
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import models, rounds
from hsstar.store.database import Database
from hsstar.store.models import checkpoint_of
from hsstar.verifier import MathVerifier
from tests.deterministic import DeterministicSampler, ReadingRewardModel
from tests.engines import tiny
from tests.engines.trainings import ONE_STEP, train_in
from tests.store.driver import Begin, Driver, call
from tests.store.factory import add_problems, add_run, make_recipe

KEPT = replace(ONE_STEP, lora_rank=4, lora_merge=False)
ROWS = "SELECT name, base, location FROM models ORDER BY id"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny.tiny_policy(tmp_path / "base")


@pytest.fixture
def trained(database: Database, verifier: MathVerifier, base: Path, tmp_path: Path) -> Driver:
    """A run of two iterations whose trainings are real and keep their adapters."""
    engines = EnginePool(
        lambda folder, recipe: DeterministicSampler(folder),
        lambda folder, recipe: ReadingRewardModel(),
        lambda settings: verifier,
        lambda: TrlTrainer("cpu"),
    )
    training = {"lora_rank": 4, "lora_merge": False, "learning_rate": 1e-2, "batch_size": 4}
    recipe = make_recipe(policy={"model": "M0", "prompt": "bare"}, training=training)
    with database.begin() as connection:
        add_problems(connection, 8)
        run = add_run(connection, recipe, "r", checkpoint=base)
        rounds.add_iterations(connection, run, range(2))
    driver = Driver(database, run, engines, tmp_path / "models", 16)
    driver.work()
    return driver


@pytest.mark.slow
def test_an_iteration_continues_the_adapter_of_the_one_before(
    trained: Driver, base: Path, tmp_path: Path
) -> None:
    database, places = trained.database, [tmp_path / "models" / "r" / name for name in ("M1", "M2")]
    assert trained.rows(ROWS) == [
        ("M0", None, str(base)),
        ("r-M1", str(base), str(places[0])),
        ("r-M2", str(base), str(places[1])),
    ]
    assert read_base(places[0]) == read_base(places[1])
    second = call(database, models.find_model, "r-M2")
    assert checkpoint_of(second) == places[1]
    assert [(entry.model, entry.base) for entry in find_lineage(database, "r-M2")] == [
        ("M0", None), ("r-M1", str(base)), ("r-M2", str(base)),
    ]  # fmt: skip
    assert {row.fingerprint for row in call(database, models.list_models)} == {
        fingerprint(folder) for folder in (base, *places)
    }
    named = make_recipe(policy={"model": "r-M2", "prompt": "bare"}).policy
    assert check_recipe_policy(database, named).base == str(base)
    tiny.tiny_policy(base, seed=3)
    with pytest.raises(CheckpointError, match="which holds other weights by now; put them back"):
        checkpoint_of(second)


@pytest.mark.slow
def test_an_export_is_whole_and_its_card_says_where_it_comes_from(trained: Driver, tmp_path: Path) -> None:
    target = export_model(trained.database, "r-M2", tmp_path / "out")
    assert base_location(target) is None
    assert check_policy(target).path == target
    source = tmp_path / "models" / "r" / "M2"
    weights, expected = (
        load_merged(place, torch.device("cpu"), torch.float32).state_dict() for place in (target, source)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert not list(target.glob("adapter*")) and not (target / "hsstar.json").exists()
    readme = (target / "README.md").read_text()
    assert f"optimiser steps, as an adapter on {tmp_path / 'base'}" in readme
    assert json.loads(readme.split("```json\n")[1].split("```")[0])["lora_merge"] is False


def test_a_base_is_kept_as_long_as_an_adapter_is_on_it(begin: Begin, tmp_path: Path) -> None:
    driver = begin(make_recipe(), name="whole", folder=tmp_path, iterations=3)
    driver.work()
    database, first = driver.database, str(tmp_path / "whole" / "M1")
    call(database, models.register_model, "elsewhere", "/adapters/a", "0" * 32, base=first)
    needs = {folder.model: folder.needed_by for folder in list_folders(database)}
    assert needs["whole-M1"] == "the adapter elsewhere is on it"
    assert [folder.model for folder in prune_models(database)] == ["whole-M2"]
    deletion = delete_run(database, "whole", "a test", tmp_path)
    assert deletion.kept_policies == ["whole-M1"]
    assert Path(first).is_dir()


@pytest.mark.slow
def test_a_base_in_a_home_that_moved_is_found(database: Database, base: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(base, home / "base")
    adapters = [
        train_in("M1", settings=KEPT, folder=folder, policy=home / "base").checkpoint
        for folder in (home / "run", tmp_path / "outside")
    ]
    for name, folder in zip(("inside", "outside"), adapters, strict=True):
        assert add_model(database, name, str(folder)).base == str(home / "base")
    home.rename(tmp_path / "new")
    assert move_models(database, home, tmp_path / "new") == 1
    for name in ("inside", "outside"):
        model = call(database, models.find_model, name)
        assert model.base == str(tmp_path / "new" / "base")
        assert check_policy(checkpoint_of(model)).path.name == "M1"
