"""The engines of a worker process are those that the recipe and the settings name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.models import Model, RewardModel
from hsstar.workers.context import make_context
from tests.store.factory import make_recipe
from tests.store.noting import POLICY, REWARD_MODEL


def context_of(tmp_path: Path, **settings: Any) -> WorkerContext:
    known = replace(Settings(tmp_path, tmp_path / "models"), **settings)
    return make_context(known, Database("postgresql://nobody@127.0.0.1:1/nowhere"), "worker")


def reward_model() -> RewardModel:
    return RewardModel(1, "prm", REWARD_MODEL, "skywork", fingerprint(REWARD_MODEL))


@pytest.mark.parametrize(("dtype", "number"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_engines_get_the_options_of_the_recipe(tmp_path: Path, dtype: str, number: torch.dtype) -> None:
    context = context_of(tmp_path)
    recipe = make_recipe(
        policy={"model": POLICY, "dtype": dtype},
        reward={"model": REWARD_MODEL, "dtype": dtype, "batch_tokens": 321},
    )
    with context.engines.sampler(Model(1, "M0", POLICY, fingerprint(POLICY), None), recipe) as sampler:
        assert sampler.name.startswith("transformers")
        assert vars(sampler)["_dtype"] == number
    scorer = vars(context.engines.reward_model(reward_model(), recipe))
    assert (scorer["_batch_tokens"], scorer["_model"].dtype) == (321, number)
    context.engines.close()


@pytest.mark.parametrize(("option", "other"), [("kind", "qwen-math"), ("engine", "vllm")])
def test_a_reward_model_of_another_kind_or_engine_is_refused(tmp_path: Path, option: str, other: str) -> None:
    recipe = make_recipe(reward={"model": REWARD_MODEL, option: other})
    with pytest.raises((CheckpointError, BadInputError), match=other):
        context_of(tmp_path).engines.reward_model(reward_model(), recipe)


def test_settings_that_concern_engines_reach_them(tmp_path: Path) -> None:
    plain = context_of(tmp_path, job_samples=7)
    assert (plain.job_samples, plain.models_folder) == (7, tmp_path / "models")
    assert not isinstance(plain.engines.trainer(), LaunchedTrainer)
    config = tmp_path / "accelerate.yaml"
    config.write_text("{}")
    launched = vars(context_of(tmp_path, train_processes=3, accelerate_config=config).engines.trainer())
    assert (launched["_processes"], launched["_launch_config"]) == (3, config)


@pytest.mark.parametrize(
    ("resident", "gpus", "one"), [("auto", 1, True), ("auto", 0, False), ("one", 0, True), ("all", 1, False)]
)
def test_one_engine_at_a_time_stays_as_the_settings_say_and_by_default_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: str, gpus: int, one: bool
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'\n" * gpus)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert context_of(tmp_path, resident_engines=resident).engines.one_at_a_time is one
