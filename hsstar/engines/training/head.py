"""TRL's head of the vocabulary on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from trl.trainer import utils


@contextmanager
def labelled_tokens_only() -> Iterator[None]:
    """Let TRL compute the vocabulary for tokens with a label alone, on a CPU too.

    Without Triton it takes every token, prompts and padding included, so that compiled kernels keep their
    shapes. Nothing is compiled on a CPU, and prompts are half of the tokens of a preference pair. The name is
    TRL's own: a version without it computes as it likes, to the same result.
    """
    on_triton = getattr(utils, "_use_triton", None)
    if on_triton is None:
        yield
        return

    def leaves_out_prompts(device: torch.device) -> bool:
        return device.type == "cpu" or on_triton(device)

    utils._use_triton = leaves_out_prompts
    try:
        yield
    finally:
        utils._use_triton = on_triton
