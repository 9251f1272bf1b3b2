"""The head of a process reward model on a policy that is being trained, and its loss."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from hsstar.engines.training.data import IGNORED_LABEL


def add_value_head(policy: Any) -> None:
    """Make a causal language model return a value for each token, (rows, tokens), instead of logits.

    Saved, the new head `v_head.summary` lies beside the model's own weights: Skywork's layout. PyTorch's
    generator decides its first weights. The vocabulary's head stays as it is, unless it is the embedding.
    """
    policy.v_head = torch.nn.Module()
    policy.v_head.summary = torch.nn.Linear(policy.config.get_text_config().hidden_size, 1)
    policy.v_head.to(policy.device)
    vocabulary = policy.get_output_embeddings()
    if vocabulary.weight is not policy.get_input_embeddings().weight:
        vocabulary.requires_grad_(False)
    policy.forward = partial(_values, policy)


def _values(policy: Any, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    hidden = policy.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    values: Tensor = policy.v_head.summary(hidden.last_hidden_state).squeeze(-1)
    return values


def step_loss(values: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Return the binary cross-entropy between values, as log-odds, and labels; both (rows, tokens).

    It is the mean over labelled tokens: over those of the whole batch if their number is given.
    """
    labelled = labels != IGNORED_LABEL
    total = binary_cross_entropy_with_logits(values[labelled].float(), labels[labelled], reduction="sum")
    return total / (labelled.sum() if num_items_in_batch is None else num_items_in_batch)


def padded(rows: list[dict[str, list[float]]]) -> dict[str, Tensor]:
    """Return rows of `input_ids` and `labels` as a batch, padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filler: float) -> list[list[float]]:
        return [row[name] + [filler] * (longest - len(row[name])) for row in rows]

    masks = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    return {
        "input_ids": torch.tensor(column("input_ids", 0)),
        "attention_mask": torch.tensor(masks),
        "labels": torch.tensor(column("labels", IGNORED_LABEL)),
    }
