"""What rounding leaves of real trainings: the forecast, the measurement, and the gain on held-out solutions.

    python -m bench.rounding --policy FOLDER --data steps.jsonl --output FOLDER

The policy's weights should be on the grid of bfloat16, as most are published. Each learning rate trains it by
supervised fine-tuning in float32; then its weights are rounded in each way, and the loss is taken in float32.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hsstar.checkpoints.tensors import sample_weights
from hsstar.data.files import ProblemFiles
from hsstar.data.solutions import read_solutions
from hsstar.domain.rounding import SampledUpdate
from hsstar.engines.loading import encode_prompts, load_tokenizer
from hsstar.engines.policies import load_policy
from hsstar.engines.training.contract import TrainingExample, TrainingTask, training_settings
from hsstar.engines.training.rounding import round_stochastically
from hsstar.engines.training.trl import TrlTrainer
from hsstar.plan.rounding import foresee_update, path_lengths
from hsstar.recipe.training import TrainingSection

HELD_OUT = 16
CPU = torch.device("cpu")
Rounding = Callable[[Tensor], Tensor]


def roundings() -> dict[str, Rounding]:
    """Return the ways to round the weights of a policy, by name."""
    generator = torch.Generator().manual_seed(0)
    return {
        "float32": lambda weights: weights,
        "bfloat16": lambda weights: weights.bfloat16().float(),
        "float16": lambda weights: weights.half().float(),
        "bfloat16, stochastic": lambda weights: round_stochastically(weights, "bfloat16", generator),
    }


def loss(model: Any, tokenizer: Any, rows: Sequence[TrainingExample]) -> float:
    """Return the mean negative log-likelihood of the tokens of the responses."""
    found = []
    for row in rows:
        prompt, response = encode_prompts(tokenizer, [row.prompt, row.response])
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        found.append(-logprobs[len(prompt) - 1 : -1].gather(-1, torch.tensor(response)[:, None]))
    return float(torch.cat(found).mean())


def measure(policy: Path, rows: Sequence[TrainingExample], output: Path, section: TrainingSection) -> None:
    """Train once and print a row of a Markdown table per way of rounding."""
    trained, held_out = rows[:-HELD_OUT], rows[-HELD_OUT:]
    task = TrainingTask("sft", policy, trained, training_settings(section, 1), output)
    report = TrlTrainer("cpu").train(task)
    shortest, longest = path_lengths(
        section.scheduler, int(report.steps * section.warmup_ratio), report.steps
    )
    weights = sample_weights(policy, 1 << 15)
    foreseen = [
        SampledUpdate(None, foresee_update(weights, section.learning_rate * length, section))
        for length in (shortest, math.sqrt(shortest * longest), longest)
    ]
    update, tokenizer = SampledUpdate(None, report.updates), load_tokenizer(policy)
    losses = {"before": loss(load_policy(policy, CPU, torch.float32), tokenizer, held_out)}
    for name, rounding in roundings().items():
        model = load_policy(report.checkpoint, CPU, torch.float32)
        for parameter in model.parameters():
            parameter.data = rounding(parameter.data)
        losses[name] = loss(model, tokenizer, held_out)
        gain = (losses["before"] - losses[name]) / (losses["before"] - losses["float32"])
        least, expected, most = (case.kept(name) for case in foreseen)
        forecast = "" if least is None else f"{expected:.1%} ({least:.1%} to {most:.1%})"
        kept = update.kept(name)
        shown = "" if kept is None else f"{kept:.1%}"
        print(
            f"| {section.learning_rate:g} | {name} | {forecast} | {shown} | {losses[name]:.4f} | {gain:.1%} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in ("policy", "data", "output"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[5e-7, 1e-5])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    rows = [
        TrainingExample(f"{problem.statement}\n", problem.solution)
        for problem in read_solutions(ProblemFiles([arguments.data]))
        if problem.solution
    ][: arguments.steps * arguments.batch_size + HELD_OUT]
    print("| learning rate | weights | kept, foreseen | measured | loss | of the gain |")
    print("| --- | --- | --- | --- | --- | --- |")
    for rate in arguments.learning_rates:
        section = TrainingSection(learning_rate=rate, batch_size=arguments.batch_size, maximum_tokens=256)
        measure(arguments.policy, rows, arguments.output / f"{rate:g}", section)


if __name__ == "__main__":
    main()
