"""vLLM inside this process: what engines import of it, once its environment is right."""

import gc
import os

import torch

# What the user has set stays.
for _name, _value in {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # an engine that dies would log its whole state
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
from vllm.v1.engine.exceptions import EngineDeadError as VllmDeadError  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402

__all__ = [
    "LLMEngine",
    "LoRARequest",
    "PoolerConfig",
    "RequestOutputKind",
    "TokensPrompt",
    "VllmDeadError",
    "current_platform",
    "vllm",
]


def _free_memory() -> None:
    """Frees what an engine has held that ends; the process groups stay, for other engines of the process."""
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


core.cleanup_dist_env_and_memory = _free_memory
