"""Picks devices and number formats, and loads tokenizers and whole models, for every engine on PyTorch."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from hsstar.checkpoints.files import weight_files
from hsstar.domain.errors import CheckpointError, EngineMemoryError
from hsstar.domain.rounding import resolve_format

TokenIds = list[int]

_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Tokenizer classes that only read tokenizer.json."""

_loading = threading.Lock()
"""`from_pretrained` patches transformers' classes meanwhile: two at once would leave weights untied."""

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def pick_device(device: str) -> torch.device:
    """Return the named device; `auto` is the first GPU, or the CPU without one."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the named number format; `auto` as in `resolve_format`."""
    number_format: torch.dtype = getattr(torch, resolve_format(dtype, gpu=device.type != "cpu"))
    return number_format


def load_tokenizer(path: Path) -> Any:
    """Load a folder's tokenizer by its tokenizer.json; `AutoTokenizer` would replace it by Qwen2's own."""
    settings = path / "tokenizer_config.json"
    try:
        named = json.loads(settings.read_bytes()).get("tokenizer_class") if settings.is_file() else None
        loader = PreTrainedTokenizerFast if named in _GENERIC_TOKENIZERS else AutoTokenizer
        return loader.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: its tokenizer cannot be loaded: {error}") from error


def load_model(auto_class: Any, path: Path, device: torch.device, dtype: torch.dtype, **options: Any) -> Any:
    """Load the model of a folder by an auto class, in evaluation mode; `options` go to `from_pretrained`.

    Raise CheckpointError if the checkpoint cannot be read or lacks a weight of the model.
    """
    try:
        with _loading:
            model, loaded = auto_class.from_pretrained(
                str(path),
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights cannot be loaded: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise CheckpointError(f"{path}: {len(missing)} weights are not in the checkpoint, {missing[0]} first")
    return model.eval() if "device_map" in options else model.to(device).eval()


def context_length(config: Any) -> int:
    """Return the most tokens that the model of this configuration attends to."""
    return int(config.get_text_config().max_position_embeddings)


def encode_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[TokenIds]:
    """Return the token ids of prompts, with the special tokens in front that inference servers add too.

    A beginning-of-text token that both the text and the tokenizer bring is there once; an end-of-text token
    that the tokenizer adds behind every text is not: a response follows.
    """
    if not prompts:
        return []
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    probe = tokenizer("1")["input_ids"]
    adds_end = end is not None and len(probe) > 1 and probe[-1] == end
    encoded = []
    for ids in tokenizer(list(prompts))["input_ids"]:
        first = 0
        while begin is not None and list(ids[first : first + 2]) == [begin, begin]:
            first += 1
        encoded.append(list(ids[first : -1 if adds_end else None]))
    return encoded


@contextmanager
def naming_memory_errors() -> Iterator[None]:
    """Raise EngineMemoryError if the block runs out of memory of a GPU or of the machine."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineMemoryError(f"out of memory: {error}") from error
    except RuntimeError as error:  # the error of PyTorch's CPU allocator
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise EngineMemoryError(f"out of memory: {error}") from error


def read_tensors(path: Path, names: Sequence[str]) -> list[Tensor]:
    """Read the named tensors, in order, as float32 on the CPU; raise CheckpointError if one is missing."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        tensors |= _read_file(file, set(names) - tensors.keys())
        if len(tensors) == len(names):
            return [tensors[name] for name in names]
    missing = ", ".join(name for name in names if name not in tensors)
    raise CheckpointError(f"{path}: the checkpoint has no tensor {missing}")


def _read_file(file: Path, wanted: set[str]) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name).float() for name in wanted & set(tensors.keys())}
    stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return {name: stored[name].float() for name in wanted & stored.keys()}
