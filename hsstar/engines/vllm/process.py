"""Sets vLLM's environment, then imports vLLM into this process; engines import vLLM from here."""

import gc
import os
from pathlib import Path
from typing import Any

import torch

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
from vllm.config import PoolerConfig  # noqa: E402
from vllm.inputs import TokensPrompt  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.v1.engine import core  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402

__all__ = [
    "LLMEngine",
    "LoRARequest",
    "PoolerConfig",
    "RequestOutputKind",
    "TokensPrompt",
    "current_platform",
    "start_engine",
    "vllm",
]


def start_engine(path: Path, **arguments: Any) -> LLMEngine:
    """Start vLLM on a checked folder; prompts are token ids.

    Raise EngineMemoryError if weights or cache do not fit, EngineError if vLLM refuses to start otherwise.
    """
    try:
        with naming_memory_errors():
            return LLMEngine.from_engine_args(
                vllm.EngineArgs(
                    model=str(path), skip_tokenizer_init=True, seed=0, disable_log_stats=True, **arguments
                )
            )
    except EngineError:
        raise
    except Exception as error:  # vLLM raises errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"vLLM does not start on {path}: {reason}") from error


def _free_memory() -> None:
    """Free an engine's memory; the process groups stay, for other engines of the process."""
    gc.unfreeze()
    clear_memory()


core.cleanup_dist_env_and_memory = _free_memory
