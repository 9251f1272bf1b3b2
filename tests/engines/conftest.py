"""Checkpoints and engines that the engine tests share; everything is tiny and random."""

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

# Before PyTorch is imported: several threads on few cores are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hsstar.engines.registry import build_sampler
from tests.engines import tiny

VLLM_OPTIONS: dict[str, Any] = {"kv_cache_memory_bytes": 64 << 20}
SKYWORK_LAYOUTS: dict[str, dict[str, Any]] = {
    "single": {"layout": "single"},
    "sharded": {"layout": "sharded"},
    "wrapped": {"layout": "single", "prefix": "pretrained_model."},
    "bin": {"layout": "bin"},
    "sharded-bin-wrapped": {"layout": "sharded-bin", "prefix": "pretrained_model."},
}


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="session")
def llama_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer puts a beginning-of-text token in front of every prompt and has no padding token."""
    return tiny.tiny_llama_policy(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def skywork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_skywork(tmp_path_factory.mktemp("skywork"))


@pytest.fixture(scope="session")
def qwen_math(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_qwen_math(tmp_path_factory.mktemp("qwen-math"), layout="sharded")


@pytest.fixture(scope="session")
def vllm_sampler(policy: Path) -> Iterator[Any]:
    """The one sampler on vLLM of a process of tests; whoever reloads it puts the policy back."""
    with closing(build_sampler(policy, engine="vllm", **VLLM_OPTIONS)) as built:
        yield built


@pytest.fixture
def train(policy: Path, tmp_path: Path) -> Any:
    """Trains the tiny policy in a folder of the test; see `trainings.train_in`."""
    from tests.engines.trainings import train_in  # imports TRL, which takes seconds

    return partial(train_in, folder=tmp_path, policy=policy)
