"""Small trainings: their rows and settings, what they report, and what the log-probabilities are."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hsstar.engines.registry import build_trainer
from hsstar.engines.training import contract
from hsstar.engines.training.contract import (
    TrainingExample,
    TrainingPair,
    TrainingSettings,
    TrainingStep,
    TrainingVerdict,
)
from hsstar.engines.training.resume import adopt_checkpoint, training_identity
from hsstar.engines.training.trl import TrlTrainer

PAIRS = [TrainingPair(f"{n}+1=?\n", f"So {n}+1 is {n + 1}.\n\nGood.", f"No idea {n}!") for n in range(12)]
EXAMPLES = [TrainingExample(pair.prompt, pair.chosen) for pair in PAIRS]
VERDICTS = [
    TrainingVerdict(pair.prompt, pair.rejected if place % 3 else pair.chosen, place % 3 == 0)
    for place, pair in enumerate(PAIRS)
]
SETTINGS = TrainingSettings(1e-3, 4, 3, 0.03, "cosine", maximum_tokens=100, seed=11, micro_batch_size=2)
"""Nine steps of four rows; the second epoch begins in step 4."""
ONE_STEP = replace(SETTINGS, epochs=1, batch_size=256, micro_batch_size=256, scheduler="constant")
SAVING = replace(SETTINGS, save_every_steps=2)

Train = Callable[..., contract.TrainingReport]
"""`train_in` with folder and policy bound."""


def train_in(
    name: str = "M1",
    rows: Sequence[contract.TrainingRow] = PAIRS,
    settings: TrainingSettings = SETTINGS,
    resume_point: contract.ResumePoint | None = None,
    *,
    folder: Path,
    policy: Path,
    trainer: contract.Trainer | None = None,
    progress: contract.ProgressCallback | None = None,
) -> contract.TrainingReport:
    """Train by the objective of these rows."""
    objective = next(name for name, kind in contract.ROWS.items() if isinstance(rows[0], kind))
    task = contract.TrainingTask(objective, policy, rows, settings, folder / name, resume_point)
    return (trainer or TrlTrainer("cpu")).train(task, progress)


def identity_of(
    policy: Path, rows: Any = PAIRS, settings: Any = SAVING, layout: str = TrlTrainer.layout
) -> str:
    return training_identity(policy, rows, settings, layout)


def die_in_training(folder: str, policy: str, processes: str) -> None:
    """Train with intermediate checkpoints; kill this process in step 5."""

    def die(event: contract.TrainingEvent) -> None:
        if isinstance(event, TrainingStep) and event.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = build_trainer(device="cpu", processes=int(processes))
    identity = identity_of(Path(policy), layout=trainer.layout)
    point = adopt_checkpoint(Path(folder) / "work", "killed", identity)
    task = contract.TrainingTask("dpo", Path(policy), PAIRS, SAVING, Path(folder) / "M1", point)
    trainer.train(task, die)


class Events(list[contract.TrainingEvent]):
    """The events of a training, whose `progress` is `append`; a training may be stopped at a step."""

    def stop_at(self, step: int) -> contract.ProgressCallback:
        def note(event: contract.TrainingEvent) -> None:
            self.append(event)
            if isinstance(event, TrainingStep) and event.step == step:
                raise KeyboardInterrupt

        return note

    @property
    def start(self) -> contract.TrainingStart:
        assert isinstance(self[0], contract.TrainingStart)
        return self[0]

    @property
    def steps(self) -> list[TrainingStep]:
        return [event for event in self if isinstance(event, TrainingStep)]

    @property
    def saved(self) -> list[int]:
        return [event.step for event in self if isinstance(event, contract.TrainingSaved)]

    def values(self, metric: str) -> list[float]:
        return [step.metrics[metric] for step in self.steps]


def tokens_of(policy: Path, prompt: str, response: str) -> tuple[list[int], list[int]]:
    """The tokens of a prompt and of a response with its end, without the product's own code."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    return tokenizer(prompt)["input_ids"], [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]


def logprobs_of(policy: Path, texts: Sequence[tuple[str, str]]) -> list[Tensor]:
    """Log-probability of each token of each response, (tokens,), by a forward pass for each."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    found = []
    for prompt, response in (tokens_of(policy, *text) for text in texts):
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        found.append(logprobs[len(prompt) - 1 : -1].gather(-1, torch.tensor(response)[:, None])[:, 0])
    return found
