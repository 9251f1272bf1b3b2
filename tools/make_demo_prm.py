"""Makes the demo's process reward model: `python -m tools.make_demo_prm --output DIR --seed N`.

It starts from the policy's weights. A value head on the last hidden state, trained as `hsstar train prm`
does, learns how often M_0 reaches the answer from the end of each step. Only the labels come from elsewhere:
from completions drawn as M_0's training solutions are. It takes about 9 minutes on one free core (800
optimiser steps of 64 solutions).
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM, Qwen2Tokenizer

from hsstar.demo import BUILTINS
from hsstar.demo.family import DemoProblem, SolutionStep, careful_share, problem_stream, solution_steps
from hsstar.domain.seeds import derived_seed
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.skywork import SkyworkRenderer
from hsstar.engines.training.value_head import add_value_head, step_loss
from tools.demo_training import IGNORED, LabelledSequence, Schedule, batches, make_reproducible, optimise

POLICY = BUILTINS["demo-policy"]
SCHEDULE = Schedule(steps=800, batch_size=64, learning_rate=1e-3)
SLIP_RATE = 0.03
COMPLETIONS = 8


def step_value(problem: DemoProblem, step: SolutionStep, generator: random.Random) -> float:
    """Return the share of completions of a solution that reach the answer from the end of a step."""
    if not step.rest.operators:
        return float(step.rest.value == problem.answer)
    careful = careful_share(problem)
    ends = [solution_steps(step.rest, careful, generator, SLIP_RATE)[-1].rest for _ in range(COMPLETIONS)]
    return fmean(end.value == problem.answer for end in ends)


def labelled_solutions(tokenizer: Qwen2Tokenizer, seed: int) -> Iterator[LabelledSequence]:
    """Yield solutions as the reward model reads them without end, drawn as M_0's are but with slips.

    The label at the end of each step is the value of the step.
    """
    generator = random.Random(derived_seed(seed, "demo labelled solutions"))  # noqa: S311  (no secret)
    renderer = SkyworkRenderer(tokenizer)
    for problem in problem_stream(seed, held_out=False):
        solution = solution_steps(problem.expression, careful_share(problem), generator, SLIP_RATE)
        values = [step_value(problem, step, generator) for step in solution]
        text = renderer.render(RewardRequest(problem.question, tuple(step.text for step in solution)))
        labels = dict(zip(text.ends, values, strict=True))
        tokens = range(len(text.tokens))
        yield LabelledSequence(text.tokens, [labels.get(place, float(IGNORED)) for place in tokens])


def train_prm(policy: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, seed: int, schedule: Schedule) -> None:
    """Give the policy a value head, and train both."""
    add_value_head(policy)

    def loss(tokens: Tensor, labels: Tensor) -> Tensor:
        return step_loss(policy(tokens), labels)

    stream = batches(labelled_solutions(tokenizer, seed), schedule.batch_size, tokenizer.pad_token_id)
    optimise(list(policy.parameters()), loss, stream, schedule)


def main() -> None:
    """Read the command line, train and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the new checkpoint")
    parser.add_argument("--policy", type=Path, default=POLICY, help="checkpoint to start from")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_reproducible(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.policy)
    policy = AutoModelForCausalLM.from_pretrained(arguments.policy, dtype=torch.float32)
    train_prm(policy, tokenizer, arguments.seed, SCHEDULE)
    policy.to(torch.bfloat16).save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)


if __name__ == "__main__":
    main()
