"""Sets vLLM's environment, then imports vLLM into this process; engines import vLLM from here."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hsstar.domain.errors import EngineError
from hsstar.engines.device import clear_memory
from hsstar.engines.loading import naming_memory_errors

# The user's own settings take precedence.
for _name, _value in {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # a dying engine would log its whole state
}.items():
    os.environ.setdefault(_name, _value)
if not torch.cuda.is_available():
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# only now: vLLM reads its environment when it is imported
import vllm  # noqa: E402
from vllm.config import PoolerConfig, VllmConfig  # noqa: E402
from vllm.inputs import TokensPrompt  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine import core  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402
from vllm.v1.sample.ops import topk_topp_sampler  # noqa: E402

from hsstar.engines.vllm.nucleus import apply_top_k_top_p  # noqa: E402

__all__ = [
    "LLMEngine",
    "LoRARequest",
    "PoolerConfig",
    "RequestOutputKind",
    "TokensPrompt",
    "configure",
    "current_platform",
    "start_engine",
    "topk_topp_sampler",
    "vllm",
]


def start_engine(path: Path, **arguments: Any) -> LLMEngine:
    """Start vLLM on a checked folder; prompts are token ids.

    Raise EngineMemoryError if weights or cache do not fit, EngineError if vLLM refuses to start otherwise.
    """
    configuration = configure(path, **arguments)
    with _naming_refusals(path):
        return LLMEngine.from_vllm_config(configuration, disable_log_stats=True)


def configure(path: Path, **arguments: Any) -> VllmConfig:
    """Return vLLM's configuration of an engine; needs no GPU. Raise EngineError if vLLM refuses a value."""
    with _naming_refusals(path):
        return vllm.EngineArgs(
            model=str(path), skip_tokenizer_init=True, seed=0, disable_log_stats=True, **arguments
        ).create_engine_config(UsageContext.ENGINE_CONTEXT)


@contextmanager
def _naming_refusals(path: Path) -> Iterator[None]:
    try:
        with naming_memory_errors():
            yield
    except EngineError:
        raise
    except Exception as error:  # vLLM raises errors of many kinds
        raise EngineError(f"vLLM does not start on {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or error.title}: {first['msg']}"
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _free_memory() -> None:
    """Free an engine's memory; the process groups stay, for other engines of the process."""
    gc.unfreeze()
    clear_memory()


core.cleanup_dist_env_and_memory = _free_memory
if current_platform.is_cpu():
    topk_topp_sampler.apply_top_k_top_p = apply_top_k_top_p
