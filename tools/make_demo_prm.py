"""Makes the demo's process reward model: `python -m tools.make_demo_prm --output DIR --seed N`.

It starts from the policy's weights. A linear head on the last hidden state learns how often M_0 reaches the
answer from the end of each step (soft estimation of Math-Shepherd, arXiv 2312.08935): the label is the share
of right ones among completions, drawn as M_0's training solutions are. The checkpoint has the layout of
Skywork-o1-Open-PRM. It takes about 9 minutes on one free core (800 optimiser steps of 64 solutions).
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM, Qwen2Tokenizer

from hsstar.demo import BUILTINS
from hsstar.demo.family import DemoProblem, SolutionStep, careful_share, problem_stream, solution_steps
from hsstar.domain.seeds import derived_seed
from tools.demo_training import IGNORED, LabelledSequence, Schedule, batches, make_reproducible, optimise

POLICY = BUILTINS["demo-policy"]
SCHEDULE = Schedule(steps=800, batch_size=64, learning_rate=1e-3)
SLIP_RATE = 0.03
COMPLETIONS = 8
SEPARATOR = "\n"


def step_value(problem: DemoProblem, step: SolutionStep, generator: random.Random) -> float:
    """Return the share of completions of a solution that reach the answer from the end of a step."""
    if not step.rest.operators:
        return float(step.rest.value == problem.answer)
    careful = careful_share(problem)
    ends = [solution_steps(step.rest, careful, generator, SLIP_RATE)[-1].rest for _ in range(COMPLETIONS)]
    return fmean(end.value == problem.answer for end in ends)


def labelled_solutions(tokenizer: Qwen2Tokenizer, seed: int) -> Iterator[LabelledSequence]:
    """Yield solutions in Skywork's input format without end, drawn as M_0's are but with slips of arithmetic.

    The label of each step's separator is the value of the step.
    """
    generator = random.Random(derived_seed(seed, "demo labelled solutions"))  # noqa: S311  (no secret)
    separator = tokenizer.encode(SEPARATOR)[-1]
    for problem in problem_stream(seed, held_out=False):
        tokens = tokenizer.encode(f"{tokenizer.bos_token}{problem.question}\n")
        labels = [float(IGNORED)] * len(tokens)
        for step in solution_steps(problem.expression, careful_share(problem), generator, SLIP_RATE):
            step_tokens = tokenizer.encode(step.text)
            tokens += [*step_tokens, separator]
            labels += [IGNORED] * len(step_tokens) + [step_value(problem, step, generator)]
        yield LabelledSequence(tokens, labels)


def train_prm(
    policy: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, seed: int, schedule: Schedule
) -> torch.nn.Linear:
    """Train the policy's body in place; return the value head that is trained with it."""
    head = torch.nn.Linear(policy.config.hidden_size, 1)

    def step_loss(tokens: Tensor, labels: Tensor) -> Tensor:
        values = head(policy.model(input_ids=tokens).last_hidden_state).squeeze(-1)
        labelled = labels != IGNORED
        return torch.nn.functional.binary_cross_entropy_with_logits(values[labelled], labels[labelled])

    stream = batches(labelled_solutions(tokenizer, seed), schedule.batch_size, tokenizer.pad_token_id)
    optimise([*policy.parameters(), *head.parameters()], step_loss, stream, schedule)
    return head


def save_prm(body: Qwen2ForCausalLM, head: torch.nn.Linear, tokenizer: Qwen2Tokenizer, output: Path) -> None:
    """Write the causal language model and the value head as one checkpoint, in bfloat16."""
    body.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    weights = output / "model.safetensors"
    value_head = {
        f"v_head.summary.{name}": value for name, value in head.to(torch.bfloat16).state_dict().items()
    }
    save_file({**load_file(weights), **value_head}, weights, metadata={"format": "pt"})


def main() -> None:
    """Read the command line, train and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    parser.add_argument("--policy", type=Path, default=POLICY, help="checkpoint to start from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_reproducible(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.policy)
    body = AutoModelForCausalLM.from_pretrained(arguments.policy, dtype=torch.float32)
    head = train_prm(body, tokenizer, arguments.seed, SCHEDULE)
    save_prm(body, head, tokenizer, arguments.output)


if __name__ == "__main__":
    main()
