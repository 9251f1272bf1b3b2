"""Makes the demo's policy M_0 from nothing: `python -m tools.make_demo_policy --output DIR --seed N`.

The policy learns from solutions whose steps are careful or careless (`family.careful_share`). So it knows
the better way but seldom prefers it on harder problems.
It takes about 11 minutes on one free core (2,100 optimiser steps of 32 solutions).
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, Qwen2ForCausalLM, Qwen2Tokenizer

from hsstar.demo.family import careful_share, problem_stream, solution_steps, solution_text
from hsstar.domain.prompts import render_prompt
from hsstar.domain.seeds import derived_seed
from tools.demo_training import (
    IGNORED,
    LabelledSequence,
    Schedule,
    batches,
    build_config,
    build_tokenizer,
    make_reproducible,
    optimise,
)

SCHEDULE = Schedule(steps=2100, batch_size=32, learning_rate=2e-3)


def solutions(tokenizer: Qwen2Tokenizer, seed: int) -> Iterator[LabelledSequence]:
    """Yield solutions of training problems without end; the labels are the response and the end of text."""
    generator = random.Random(derived_seed(seed, "demo solutions"))  # noqa: S311  (no secret)
    for problem in problem_stream(seed, held_out=False):
        steps = solution_steps(problem.expression, careful_share(problem), generator)
        response = solution_text(steps)
        prompt_tokens = tokenizer.encode(render_prompt("bare", problem.question))
        response_tokens = [*tokenizer.encode(response), tokenizer.eos_token_id]
        yield LabelledSequence(
            prompt_tokens + response_tokens, [IGNORED] * len(prompt_tokens) + response_tokens
        )


def train_policy(tokenizer: Qwen2Tokenizer, seed: int, schedule: Schedule) -> Qwen2ForCausalLM:
    """Train a policy from random weights."""
    policy = Qwen2ForCausalLM(build_config(tokenizer))

    def next_token_loss(tokens: Tensor, labels: Tensor) -> Tensor:
        logits = policy(input_ids=tokens).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )

    stream = batches(solutions(tokenizer, seed), schedule.batch_size, tokenizer.pad_token_id)
    optimise(list(policy.parameters()), next_token_loss, stream, schedule)
    return policy


def save_policy(policy: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, output: Path) -> None:
    """Write the policy in Hugging Face layout, in bfloat16."""
    policy.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    policy.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    """Read the command line, train and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_reproducible(arguments.seed)
    tokenizer = build_tokenizer()
    save_policy(train_policy(tokenizer, arguments.seed, SCHEDULE), tokenizer, arguments.output)


if __name__ == "__main__":
    main()
