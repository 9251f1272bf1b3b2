"""Engines are built by name, and say what is missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.engines.registry import build_reward_model, build_sampler, build_trainer


def test_a_reward_model_is_built_by_its_family(skywork: Callable[[str], Path], qwen_math: Path) -> None:
    assert build_reward_model(skywork("single"), device="cpu").name.startswith("skywork-prm")
    assert build_reward_model(qwen_math, device="cpu").name.startswith("qwen-math-prm")


def test_an_unknown_engine_is_refused(policy: Path) -> None:
    with pytest.raises(BadInputError, match="transformers"):
        build_sampler(policy, engine="abacus")


def test_a_wrong_checkpoint_is_refused_before_an_engine_is_imported(policy: Path) -> None:
    with pytest.raises(CheckpointError, match="no reward head"):
        build_reward_model(policy)


def test_a_missing_package_names_the_extra_to_install() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from hsstar.domain.errors import MissingDependencyError\n"
        "from hsstar.engines.registry import build_trainer\n"
        "try: build_trainer()\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "hsstar[train]" in result.stdout


def test_the_trainer_is_built_by_name() -> None:
    assert type(build_trainer(device="cpu")).__name__ == "TrlTrainer"
