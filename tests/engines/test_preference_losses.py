"""The losses that TRL reports are those that the log-probabilities give by hand."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, relu, sigmoid
from torch.nn.functional import logsigmoid

from hsstar.checkpoints.resolve import check_policy
from hsstar.domain.errors import EngineError
from hsstar.engines.training.contract import TrainingPair, TrainingSettings
from hsstar.recipe.training import LossType
from tests.engines.trainings import Events, Train, logprobs_of

PAIRS = [TrainingPair(f"{n}+1=?\n", f"It is {n + 1}.\n\nYes.", "No idea" + "!" * n) for n in range(6)]
BETA = 0.3
TWO_STEPS = TrainingSettings(
    5e-3, 6, 2, 0.0, "constant", maximum_tokens=100, seed=3, micro_batch_size=6, beta=BETA
)


def robust(chosen: Tensor, rejected: Tensor, *_: Tensor) -> Tensor:
    """A tenth of the pairs are taken to be the wrong way round."""
    margins = BETA * (chosen - rejected)
    return (-0.9 * logsigmoid(margins) + 0.1 * logsigmoid(-margins)) / 0.8


def ipo(chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor) -> Tensor:
    return (chosen / chosen_tokens - rejected / rejected_tokens - 1 / (2 * BETA)) ** 2


BY_HAND: dict[str, Callable[..., Tensor]] = {
    "sigmoid": lambda chosen, rejected, *_: -logsigmoid(BETA * (chosen - rejected)),
    "hinge": lambda chosen, rejected, *_: relu(1 - BETA * (chosen - rejected)),
    "ipo": ipo,
    "robust": robust,
    "apo_zero": lambda chosen, rejected, *_: 1 - sigmoid(BETA * chosen) + sigmoid(BETA * rejected),
    "bco_pair": lambda chosen, rejected, *_: -logsigmoid(BETA * chosen) - logsigmoid(-BETA * rejected),
}
"""By log-ratios of the responses to the reference's, and their numbers of tokens."""
SMOOTHED = {"robust": 0.1, "exo_pair": 1e-3}


def response_logprobs(policy: Path) -> list[list[Tensor]]:
    """Log-probabilities of the tokens of each chosen and each rejected response."""
    chosen = logprobs_of(policy, [(pair.prompt, pair.chosen) for pair in PAIRS])
    return [chosen, logprobs_of(policy, [(pair.prompt, pair.rejected) for pair in PAIRS])]


def log_ratios(policy: Path, reference: Path) -> list[Tensor]:
    """Log-ratios of each chosen and each rejected response."""
    logps = [
        [torch.stack([row.sum() for row in rows]) for rows in response_logprobs(one)]
        for one in (policy, reference)
    ]
    return [mine - its for mine, its in zip(*logps, strict=True)]


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_a_loss_is_what_the_log_probabilities_give(train: Train, policy: Path, loss_type: str) -> None:
    """The first step is taken from the reference itself, the second from a policy that has moved."""
    settings = replace(TWO_STEPS, loss_type=loss_type, label_smoothing=SMOOTHED.get(loss_type, 0.0))
    seen = Events()
    train("M2", PAIRS, settings, progress=seen.append)
    first, second = seen.values("loss")
    assert math.isfinite(second) and second != first
    if loss_type not in BY_HAND:
        return
    lengths = [torch.tensor([len(row) for row in rows]) for rows in response_logprobs(policy)]
    moved = train("moved", PAIRS, replace(settings, epochs=1)).checkpoint
    for step, stepped_from in zip(seen.steps, (policy, moved), strict=True):
        ratios = log_ratios(stepped_from, policy)
        loss = float(BY_HAND[loss_type](*ratios, *lengths).mean())
        assert step.metrics["loss"] == pytest.approx(loss, abs=2e-4)
        rewards = [float(BETA * ratio.mean()) for ratio in ratios]
        curves = [step.metrics[f"rewards/{name}"] for name in ("chosen", "rejected", "margins")]
        assert curves == pytest.approx([*rewards, rewards[0] - rewards[1]], abs=2e-3)


def test_precomputed_reference_log_probabilities_change_nothing(train: Train) -> None:
    spared = replace(TWO_STEPS, precompute_reference_logprobs=True, gradient_checkpointing=True)
    metrics = [train(rows=PAIRS, settings=settings).metrics for settings in (TWO_STEPS, spared)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4, "learning_rate": 2e-2}])
def test_the_policy_learns_the_preferences(train: Train, policy: Path, changes: dict[str, float]) -> None:
    """Measured on the checkpoint by hand; adapters are merged into it."""
    seen = Events()
    settings = replace(TWO_STEPS, epochs=6, **changes)  # type: ignore[arg-type]
    report = train(rows=PAIRS, settings=settings, progress=seen.append)
    assert report.metrics["last/rewards/accuracies"] == 1.0
    losses = seen.values("loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < 0.5 * losses[0]
    assert check_policy(report.checkpoint).architecture == "Qwen2ForCausalLM"
    assert not list(report.checkpoint.glob("adapter*"))
    chosen, rejected = log_ratios(report.checkpoint, policy)
    assert (chosen - rejected > 1).all()


def test_only_the_named_layers_get_adapters(train: Train, policy: Path) -> None:
    settings = replace(TWO_STEPS, lora_rank=4, lora_target_modules=("q_proj",), learning_rate=2e-2)
    trained = train(rows=PAIRS, settings=settings).checkpoint
    before, after = (load_file(folder / "model.safetensors") for folder in (policy, trained))
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
    train: Train, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        train(settings=replace(TWO_STEPS, **changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
