"""The losses that TRL reports are those that the log-probabilities give by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM

from hsstar.checkpoints.resolve import check_policy
from hsstar.domain.errors import EngineError
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.training.contract import (
    TrainingEvent,
    TrainingPair,
    TrainingSettings,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.data import tokenise
from hsstar.engines.training.trl import TrlTrainer
from hsstar.recipe.training import LossType

PAIRS = [TrainingPair(f"{n}+1=?\n", f"It is {n + 1}.\n\nYes.", "No idea" + "!" * n) for n in range(6)]
BETA = 0.3
TWO_STEPS = TrainingSettings(
    learning_rate=5e-3,
    batch_size=6,
    micro_batch_size=6,
    epochs=2,
    warmup_ratio=0.0,
    scheduler="constant",
    maximum_tokens=100,
    seed=3,
    beta=BETA,
)


def logps(policy: Path, rows: list[dict[str, list[int]]]) -> tuple[Tensor, Tensor]:
    """Log-probability of each chosen and each rejected response, one forward pass per response."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)

    def of(prompt: list[int], response: list[int]) -> float:
        with torch.inference_mode():
            logprobs = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        return sum(float(logprobs[len(prompt) + place - 1, token]) for place, token in enumerate(response))

    return (
        torch.tensor([of(row["prompt_ids"], row["chosen_ids"]) for row in rows]),
        torch.tensor([of(row["prompt_ids"], row["rejected_ids"]) for row in rows]),
    )


def sigmoid(chosen: Tensor, rejected: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return -logsigmoid(BETA * (chosen - rejected))


def hinge(chosen: Tensor, rejected: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return torch.relu(1 - BETA * (chosen - rejected))


def ipo(chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor) -> Tensor:
    return (chosen / chosen_tokens - rejected / rejected_tokens - 1 / (2 * BETA)) ** 2


def robust(chosen: Tensor, rejected: Tensor, _: Tensor, __: Tensor) -> Tensor:
    """With a tenth of the pairs taken to be the wrong way round."""
    right, flipped = logsigmoid(BETA * (chosen - rejected)), logsigmoid(-BETA * (chosen - rejected))
    return (-0.9 * right + 0.1 * flipped) / 0.8


def apo_zero(chosen: Tensor, rejected: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return 1 - torch.sigmoid(BETA * chosen) + torch.sigmoid(BETA * rejected)


def bco_pair(chosen: Tensor, rejected: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return -logsigmoid(BETA * chosen) - logsigmoid(-BETA * rejected)


BY_HAND: dict[str, Callable[..., Tensor]] = {
    rule.__name__: rule for rule in (sigmoid, hinge, ipo, robust, apo_zero, bco_pair)
}
SMOOTHED = {"robust": 0.1, "exo_pair": 1e-3}


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_a_loss_is_what_the_log_probabilities_give(policy: Path, tmp_path: Path, loss_type: str) -> None:
    """The first step is taken from the reference itself, the second from a policy that has moved."""
    settings = replace(TWO_STEPS, loss_type=loss_type, label_smoothing=SMOOTHED.get(loss_type, 0.0))
    trainer, seen = TrlTrainer("cpu"), list[TrainingEvent]()
    trainer.train(TrainingTask("dpo", policy, PAIRS, settings, tmp_path / "M2"), seen.append)
    first, second = (event.metrics["loss"] for event in seen if isinstance(event, TrainingStep))
    assert math.isfinite(second)
    assert second != first
    if loss_type not in BY_HAND:
        return
    moved = trainer.train(
        TrainingTask("dpo", policy, PAIRS, replace(settings, epochs=1), tmp_path / "M1")
    ).checkpoint

    rows = tokenise("dpo", PAIRS, load_tokenizer(policy), 100).rows
    reference, chosen_tokens = logps(policy, rows), torch.tensor([len(row["chosen_ids"]) for row in rows])
    rejected_tokens = torch.tensor([len(row["rejected_ids"]) for row in rows])
    for loss, against in ((first, policy), (second, moved)):
        now = logps(against, rows)
        ratios = [mine - its for mine, its in zip(now, reference, strict=True)]
        expected = BY_HAND[loss_type](*ratios, chosen_tokens, rejected_tokens).mean()
        assert loss == pytest.approx(float(expected), abs=2e-4)


def test_the_losses_differ_once_the_policy_has_moved(policy: Path, tmp_path: Path) -> None:
    """At the start sigmoid is ln 2, whatever the data: only later steps tell one loss from another."""
    losses = set()
    for number, loss_type in enumerate(("sigmoid", "hinge", "ipo")):
        seen = list[TrainingEvent]()
        settings = replace(TWO_STEPS, loss_type=loss_type)
        TrlTrainer("cpu").train(
            TrainingTask("dpo", policy, PAIRS, settings, tmp_path / str(number)), seen.append
        )
        losses.add(round([e.metrics["loss"] for e in seen if isinstance(e, TrainingStep)][1], 4))
    assert len(losses) == 3


def test_precomputed_reference_log_probabilities_change_nothing(policy: Path, tmp_path: Path) -> None:
    metrics = [
        TrlTrainer("cpu").train(TrainingTask("dpo", policy, PAIRS, settings, tmp_path / str(number))).metrics
        for number, settings in enumerate(
            (TWO_STEPS, replace(TWO_STEPS, precompute_reference_logprobs=True, gradient_checkpointing=True))
        )
    ]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


def test_training_makes_the_policy_prefer_the_chosen_responses(policy: Path, tmp_path: Path) -> None:
    """Measured on the checkpoint by hand, not taken from the trainer's own figures."""
    trained = (
        TrlTrainer("cpu")
        .train(TrainingTask("dpo", policy, PAIRS, replace(TWO_STEPS, epochs=6), tmp_path / "M1"))
        .checkpoint
    )
    rows = tokenise("dpo", PAIRS, load_tokenizer(policy), 100).rows
    before, after = logps(policy, rows), logps(trained, rows)
    gained = (after[0] - before[0]) - (after[1] - before[1])
    assert (gained > 1).all()


def test_adapters_are_merged_into_whole_weights(policy: Path, tmp_path: Path) -> None:
    settings = replace(TWO_STEPS, epochs=6, lora_rank=4, learning_rate=2e-2)
    seen = list[TrainingEvent]()
    report = TrlTrainer("cpu").train(
        TrainingTask("dpo", policy, PAIRS, settings, tmp_path / "M1"), seen.append
    )

    losses = [event.metrics["loss"] for event in seen if isinstance(event, TrainingStep)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.5 * losses[0]
    assert check_policy(report.checkpoint).architecture == "Qwen2ForCausalLM"
    assert not list(report.checkpoint.glob("adapter*"))
    rows = tokenise("dpo", PAIRS, load_tokenizer(policy), 100).rows
    before, after = logps(policy, rows), logps(report.checkpoint, rows)
    assert ((after[0] - before[0]) - (after[1] - before[1]) > 1).all()


def test_only_the_named_layers_get_adapters(policy: Path, tmp_path: Path) -> None:
    settings = replace(TWO_STEPS, lora_rank=4, lora_target_modules=("q_proj",), learning_rate=2e-2)
    trained = (
        TrlTrainer("cpu").train(TrainingTask("dpo", policy, PAIRS, settings, tmp_path / "M1")).checkpoint
    )
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (policy, trained)
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("q_proj.weight")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 4, "quantization": "4bit"}, "quantization = '4bit' needs an NVIDIA GPU"),
        ({"sharding": "fsdp2"}, "sharding = 'fsdp2' shares a model among several processes"),
    ],
)
def test_what_this_machine_cannot_do_is_said(
    policy: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        TrlTrainer("cpu").train(
            TrainingTask("dpo", policy, PAIRS, replace(TWO_STEPS, **changes), tmp_path / "M1")  # type: ignore[arg-type]
        )
    assert list(tmp_path.iterdir()) == []
