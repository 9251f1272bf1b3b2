"""The tokens that vLLM may draw, on a CPU: its own way sorts the vocabulary, which is a third of its time."""

import torch
from torch import Tensor
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_only

from hsstar.engines.sampling.choice import CHUNK, least_in_nucleus


def apply_top_k_top_p(logits: Tensor, k: Tensor | None, p: Tensor | None) -> Tensor:
    """Put -inf in place of what `k` and then `p`, (rows,), cut from float32 logits, (rows, vocabulary).

    As vLLM's function of this name, but tokens as probable as the last one of a nucleus stay too.
    """
    if k is not None:
        logits = apply_top_k_only(logits, k)
    if p is not None:
        rows = max(1, CHUNK // logits.shape[-1])
        parts = zip(torch.split(logits, rows), torch.split(p[:, None], rows), strict=True)
        for part, masses in parts:
            probabilities = part.softmax(-1)
            smallest = least_in_nucleus(probabilities, masses).masked_fill(masses >= 1, 0.0)
            part.masked_fill_(probabilities < smallest, -torch.inf)
    return logits
