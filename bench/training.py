"""Measure the optimiser steps of DPO on a CPU: hsstar's, and with TRL's own head of the vocabulary.

    python -m bench.training --model FOLDER --pairs FILE [--runs 3] [--dtype bfloat16]

TRL's head takes prompts and padding too, hsstar's the tokens of responses alone; the losses are the same.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
import trl

from bench.setup import benchmark_parser, describe_host, median_and_range, table, temporary_folder
from hsstar.commands.train import FileTraining, train_from_file
from hsstar.engines.training.contract import TrainingEvent, TrainingStart, TrainingStep
from hsstar.engines.training.head import labelled_tokens_only
from hsstar.recipe.training import TrainingSection
from hsstar.settings import Settings

TRAINER = "hsstar.engines.training.trl"
HEADS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "all tokens (TRL)": nullcontext,
    "responses alone": labelled_tokens_only,
}


def measure(model: str, pairs: Path, section: TrainingSection, head: str) -> tuple[float, float]:
    """Return the processor time of a step, in seconds, and the loss of the first."""
    times: list[float] = []
    losses: list[float] = []

    def note(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStart | TrainingStep):
            times.append(time.process_time())
        if isinstance(event, TrainingStep):
            losses.append(event.metrics["loss"])

    with temporary_folder("hsb-") as folder, patch(f"{TRAINER}.labelled_tokens_only", HEADS[head]):
        request = FileTraining("dpo", str(pairs), model, folder / "trained", section, seed=0)
        train_from_file(request, Settings.from_environment({"HSSTAR_HOME": str(folder / "home")}), note)
    return (times[-1] - times[0]) / len(losses), losses[0]


def main() -> None:
    """Train alternately with both heads and print a table."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--model", required=True, help="the policy: a folder")
    parser.add_argument("--pairs", type=Path, required=True, help="preference pairs, 32 or more")
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    section = TrainingSection(
        rows=32, batch_size=16, micro_batch_size=4, nll_weight=1.0, maximum_tokens=512, dtype=arguments.dtype
    )
    print(describe_host())
    print(f"- PyTorch {torch.__version__}, {torch.get_num_threads()} threads, TRL {trl.__version__}")
    measured: dict[str, list[tuple[float, float]]] = {head: [] for head in HEADS}
    for _ in range(arguments.runs):
        for head, results in measured.items():
            results.append(measure(arguments.model, arguments.pairs, section, head))
    rows = [
        [head, *median_and_range([seconds for seconds, _ in results], ".2f"), f"{results[0][1]:.5f}"]
        for head, results in measured.items()
    ]
    first, second = (statistics.median(seconds for seconds, _ in measured[head]) for head in HEADS)
    print(table([f"step of 16 pairs, {arguments.dtype}", "median s", "smallest", "largest", "loss"], rows))
    print(f"\n{1 - second / first:.0%} less processor time")


if __name__ == "__main__":
    main()
