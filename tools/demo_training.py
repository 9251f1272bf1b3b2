"""Tokenizer, architecture, batches and optimiser loop of the makers of the demo's checkpoints.

Everything runs in float32 on one thread, so that a seed gives the same weights on any number of cores.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import Qwen2Config, Qwen2Tokenizer

BOS, EOS, PAD = "<|startoftext|>", "<|endoftext|>", "<|pad|>"
PHRASES = ("\n\n", "\\boxed{")
"""Texts of every solution; each is one token, which keeps the sequences short."""
CONTEXT = 512
"""Most tokens that the models read."""
IGNORED = -100
"""Label of a position that the loss leaves out."""
_POOL_BATCHES = 16
_WARMUP_STEPS = 50
_PROGRESS_STEPS = 100


@dataclass(frozen=True, slots=True)
class LabelledSequence:
    """Token ids and a label for each of them (`IGNORED`: none); both of shape (tokens,)."""

    tokens: list[int]
    labels: Sequence[float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Optimiser steps, sequences per step, and the peak learning rate between warm-up and cosine decay."""

    steps: int
    batch_size: int
    learning_rate: float


def make_reproducible(seed: int) -> None:
    """Fix the number of threads and PyTorch's seed."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)


def build_tokenizer() -> Qwen2Tokenizer:
    """Build a tokenizer with one token per byte and per phrase of `PHRASES`, so that it reads any text."""
    frequent = [
        "Ċ",
        "Ġ",
        *map(chr, range(33, 127)),
    ]  # line feed and space, as byte-level tokenizers write them
    alphabet = [*frequent, *sorted(set(ByteLevel.alphabet()) - set(frequent))]
    vocabulary = {text: index for index, text in enumerate([PAD, BOS, EOS, *PHRASES, *alphabet])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=EOS,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    return tokenizer


def build_config(tokenizer: Qwen2Tokenizer) -> Qwen2Config:
    """Return the smallest Qwen2 that every engine runs: head size 32, 0.8 million parameters."""
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _padded(sequences: list[LabelledSequence], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(sequence.tokens) for sequence in sequences)
    tokens = [s.tokens + [pad] * (longest - len(s.tokens)) for s in sequences]
    labels = [[*s.labels, *[IGNORED] * (longest - len(s.labels))] for s in sequences]
    return torch.tensor(tokens), torch.tensor(labels)


def batches(sequences: Iterator[LabelledSequence], size: int, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield token ids and labels, each (size, tokens), padded on the right.

    Sequences of similar length share a batch; the batches of a pool come in random order.
    """
    while True:
        pool = sorted(islice(sequences, size * _POOL_BATCHES), key=lambda sequence: len(sequence.tokens))
        for index in torch.randperm(_POOL_BATCHES).tolist():
            yield _padded(pool[index * size : (index + 1) * size], pad)


def optimise(
    parameters: list[torch.nn.Parameter],
    batch_loss: Callable[[Tensor, Tensor], Tensor],
    stream: Iterator[tuple[Tensor, Tensor]],
    schedule: Schedule,
) -> None:
    """Minimise the loss over the stream with AdamW and print its mean at intervals."""
    optimiser = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    factors = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate_factor(step, schedule.steps))
    started, total = time.monotonic(), 0.0
    for step, (tokens, labels) in enumerate(islice(stream, schedule.steps), start=1):
        loss = batch_loss(tokens, labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        factors.step()
        total += loss.item()
        if step % _PROGRESS_STEPS == 0:
            seconds = time.monotonic() - started
            print(
                f"step {step}/{schedule.steps}: loss {total / _PROGRESS_STEPS:.4f}, {seconds:.0f} s",
                flush=True,
            )
            total = 0.0


def _rate_factor(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / _WARMUP_STEPS)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
