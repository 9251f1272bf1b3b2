"""Small trainings: their rows and settings, what they report, and what reaches the model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hsstar.engines.training.contract import (
    Objective,
    ProgressCallback,
    ResumePoint,
    Trainer,
    TrainingEvent,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    TrainingSaved,
    TrainingSettings,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.resume import training_identity
from hsstar.engines.training.trl import TrlTrainer

PAIRS = [TrainingPair(f"{n}+1=?\n", f"So {n}+1 is {n + 1}.\n\nGood.", f"No idea {n}!") for n in range(12)]
EXAMPLES = [TrainingExample(pair.prompt, pair.chosen) for pair in PAIRS]
SETTINGS = TrainingSettings(
    learning_rate=1e-3,
    batch_size=4,
    micro_batch_size=2,
    epochs=3,
    warmup_ratio=0.03,
    scheduler="cosine",
    maximum_tokens=100,
    seed=11,
)
"""Nine steps of four rows; the second epoch begins in step 4."""
ONE_STEP = replace(SETTINGS, epochs=1, batch_size=256, micro_batch_size=256, scheduler="constant")
SAVING = replace(SETTINGS, save_every_steps=2)

Train = Callable[..., TrainingReport]
"""`train_in` with folder and policy bound."""


def train_in(
    folder: Path,
    policy: Path,
    name: str = "M1",
    rows: Sequence[TrainingRow] = PAIRS,
    settings: TrainingSettings = SETTINGS,
    *,
    trainer: Trainer | None = None,
    progress: ProgressCallback | None = None,
    resume_point: ResumePoint | None = None,
) -> TrainingReport:
    """Train on pairs by `dpo`, on examples by `sft`."""
    objective: Objective = "sft" if isinstance(rows[0], TrainingExample) else "dpo"
    task = TrainingTask(objective, policy, rows, settings, folder / name, resume_point)
    return (trainer or TrlTrainer("cpu")).train(task, progress)


def identity_of(
    policy: Path, rows: Sequence[TrainingRow] = PAIRS, settings: TrainingSettings = SAVING
) -> str:
    return training_identity(policy, rows, settings, TrlTrainer.layout)


class Events(list[TrainingEvent]):
    """The events of a training, whose `progress` is `append`; a training may be stopped at a step."""

    def stop_at(self, step: int) -> ProgressCallback:
        def note(event: TrainingEvent) -> None:
            self.append(event)
            if isinstance(event, TrainingStep) and event.step == step:
                raise KeyboardInterrupt

        return note

    @property
    def start(self) -> TrainingStart:
        assert isinstance(self[0], TrainingStart)
        return self[0]

    @property
    def steps(self) -> list[TrainingStep]:
        return [event for event in self if isinstance(event, TrainingStep)]

    @property
    def saved(self) -> list[int]:
        return [event.step for event in self if isinstance(event, TrainingSaved)]

    def values(self, metric: str) -> list[float]:
        return [step.metrics[metric] for step in self.steps]


class WatchedTrainer(TrlTrainer):
    """Keeps the trainer of TRL, and what the trained model was given.

    Attributes:
        rows: tokens and labels of each row of each forward pass, without padding.
        formats: number formats of the weights.
        autocast: whether each forward pass computed in bfloat16.
    """

    def __init__(self) -> None:
        super().__init__("cpu")
        self.trl: Any = None
        self.rows: list[tuple[list[int], list[int]]] = []
        self.formats: set[torch.dtype] = set()
        self.autocast: set[bool] = set()

    def _trainable(self, policy: Path, settings: TrainingSettings) -> Any:
        model = super()._trainable(policy, settings)
        model.register_forward_pre_hook(self._see, with_kwargs=True)
        model.base_model.register_forward_pre_hook(self._see_autocast)
        return model

    def _trl_trainer(self, *arguments: Any, **parts: Any) -> Any:
        self.trl = super()._trl_trainer(*arguments, **parts)
        return self.trl

    def _see(self, model: Any, _: Any, given: dict[str, Any]) -> None:
        for tokens, mask, labels in zip(
            given["input_ids"], given["attention_mask"].bool(), given["labels"], strict=True
        ):
            assert (labels[~mask] == -100).all(), "padding reaches the loss"
            self.rows.append((tokens[mask].tolist(), labels[mask].tolist()))
        self.formats |= {weight.dtype for weight in model.parameters()}

    def _see_autocast(self, *_: Any) -> None:
        self.autocast.add(torch.is_autocast_enabled("cpu"))


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


def logps(policy: Path, pairs: Sequence[TrainingPair]) -> tuple[Tensor, Tensor]:
    """Log-probability of each chosen and each rejected response."""
    chosen = logprobs_of(policy, [(pair.prompt, pair.chosen) for pair in pairs])
    rejected = logprobs_of(policy, [(pair.prompt, pair.rejected) for pair in pairs])
    return torch.stack([row.sum() for row in chosen]), torch.stack([row.sum() for row in rejected])


def mean_loss(policy: Path) -> float:
    """Mean negative log-likelihood of all response tokens of `EXAMPLES`."""
    return -float(torch.cat(logprobs_of(policy, [(row.prompt, row.response) for row in EXAMPLES])).mean())
