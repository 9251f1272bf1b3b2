"""A process reward model is trained on labels of steps, and the product's scorer reads what was trained."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hsstar.checkpoints.resolve import check_reward_model, fingerprint
from hsstar.domain.errors import BadInputError
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.training.contract import TrainingSettings, TrainingSteps
from hsstar.engines.training.data import tokenise
from hsstar.engines.training.resume import adopt_checkpoint
from hsstar.engines.training.trl import TrlTrainer
from tests.engines import tiny
from tests.engines.reward_references import skywork_reference
from tests.engines.trainings import ONE_STEP, SAVING, SETTINGS, Events, Train, identity_of

pytestmark = pytest.mark.slow  # nearly every test trains

STEPS = [
    TrainingSteps(f"{n}+1=?", (f"So {n}+1", f"is {n + 1}.", "!" * (1 + n)), (n / 11, 1.0, float(n % 2)))
    for n in range(12)
]
LEARNING = replace(SETTINGS, epochs=30, learning_rate=1e-2)


class Watched(TrlTrainer):
    """Keeps the values of the trained model on every row, just before it is saved."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.values: list[Tensor] = []

    def _run(self, trainer: Any, task: Any, data: Any, *rest: Any) -> dict[str, float]:
        metrics = super()._run(trainer, task, data, *rest)
        with torch.inference_mode():
            for row in data.rows:
                values = trainer.model.eval()(torch.tensor([row["input_ids"]]))[0]
                self.values.append(values[torch.tensor(row["labels"]) != -100].sigmoid())
        return metrics


def rewards_of(folder: Path, rows: list[TrainingSteps] = STEPS) -> list[tuple[float, ...]]:
    scored = build_reward_model(folder, device="cpu").score(
        [RewardRequest(row.problem, row.steps) for row in rows]
    )
    return [score.rewards for score in scored]


def entropy(rewards: list[tuple[float, ...]]) -> float:
    """Mean binary cross-entropy to the labels, over all steps, in plain words."""
    losses = [
        -label * math.log(reward) - (1 - label) * math.log(1 - reward)
        for row, own in zip(STEPS, rewards, strict=True)
        for label, reward in zip(row.labels, own, strict=True)
        if label is not None
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("own_vocabulary_head", [False, True])
def test_the_scorer_gives_the_values_that_were_trained_and_they_learn_the_labels(
    train: Train, tmp_path: Path, own_vocabulary_head: bool
) -> None:
    parent = tiny.tiny_policy(tmp_path / "policy", tie_word_embeddings=not own_vocabulary_head)
    watched, seen = Watched(), Events()
    report = train("prm", STEPS, LEARNING, policy=parent, trainer=watched, progress=seen.append)
    assert check_reward_model(report.checkpoint).family == "skywork"
    rewards = rewards_of(report.checkpoint)
    for own, values, row in zip(rewards, watched.values, STEPS, strict=True):
        assert own == pytest.approx(values.tolist(), abs=1e-5)
        assert own == pytest.approx(
            skywork_reference(report.checkpoint, RewardRequest(row.problem, row.steps)), abs=1e-5
        )
    assert entropy(rewards) < 0.8 * seen.values("loss")[0]
    before, after = (load_file(path / "model.safetensors") for path in (parent, report.checkpoint))
    assert after.keys() == before.keys() | {"v_head.summary.weight", "v_head.summary.bias"}
    assert after["v_head.summary.weight"].shape == (1, 32)
    assert own_vocabulary_head == ("lm_head.weight" in before)
    for name in before.keys() & {"lm_head.weight"}:
        assert torch.equal(before[name], after[name])
    assert all(speed > 0 for speed in seen.values("tokens_per_second"))


def test_the_first_loss_is_the_mean_over_labelled_steps_whatever_the_micro_batch(train: Train) -> None:
    rows = [replace(row, labels=(row.labels[0], None, row.labels[2])) for row in STEPS[:5]] + STEPS[5:]
    losses = [
        train("prm", rows, replace(ONE_STEP, micro_batch_size=size)).metrics["loss"] for size in (1, 5, 256)
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_the_loss_is_binary_cross_entropy_to_the_labels(train: Train, tmp_path: Path) -> None:
    """Read from a checkpoint that a training with a vanishing learning rate has left as it began."""
    report = train("prm", STEPS, replace(ONE_STEP, learning_rate=1e-12))
    assert report.metrics["loss"] == pytest.approx(entropy(rewards_of(report.checkpoint)), abs=1e-4)


def test_arithmetic_and_checkpoint_may_be_bfloat16(train: Train) -> None:
    watched = Watched()
    report = train("prm", STEPS, replace(ONE_STEP, dtype="bfloat16", save_dtype="bfloat16"), trainer=watched)
    assert {weight.dtype for weight in load_file(report.checkpoint / "model.safetensors").values()} == {
        torch.bfloat16
    }
    for own, values in zip(rewards_of(report.checkpoint), watched.values, strict=True):
        assert own == pytest.approx(values.tolist(), abs=0.02)


def test_a_seed_decides_the_reward_model(train: Train) -> None:
    first, again = (fingerprint(train("prm", STEPS, SETTINGS).checkpoint) for _ in range(2))
    other = fingerprint(train("prm", STEPS, replace(SETTINGS, seed=12)).checkpoint)
    assert first == again != other


def test_an_interrupted_training_of_a_reward_model_goes_on(
    train: Train, policy: Path, tmp_path: Path
) -> None:
    def attempt(name: str) -> Any:
        return adopt_checkpoint(tmp_path / "work", name, identity_of(policy, STEPS, SAVING))

    undisturbed = train("undisturbed", STEPS, SAVING)
    with pytest.raises(KeyboardInterrupt):
        train("prm", STEPS, SAVING, progress=Events().stop_at(5), resume_point=attempt("a"))
    again = Events()
    resumed = train("prm", STEPS, SAVING, progress=again.append, resume_point=attempt("b"))
    assert again.start.resumed_at == 4
    assert fingerprint(resumed.checkpoint) == fingerprint(undisturbed.checkpoint)


def test_responses_are_cut_at_a_step_and_those_without_a_label_left_out() -> None:
    tokenizer = tiny.qwen_tokenizer()
    rows = [
        TrainingSteps("p", ("a" * 5, "b" * 5), (0.5, 1.0)),  # 2 + 6 + 6 tokens
        TrainingSteps("p", ("a" * 5, "b" * 6), (0.25, 1.0)),
        TrainingSteps("p", ("a" * 20,), (0.0,)),
        TrainingSteps("p", ("a" * 5, "b" * 6), (None, 1.0)),
    ]
    data = tokenise("prm", rows, tokenizer, 14)
    assert [[label for label in row["labels"] if label != -100] for row in data.rows] == [[0.5, 1.0], [0.25]]
    assert [len(row["input_ids"]) for row in data.rows] == [14, 8]
    assert (data.truncated, data.left_out) == (1, {"no labelled step within the limit": 2})
    assert data.lengths["response"]["max"] == 23
    with pytest.raises(BadInputError, match="4 × no labelled step within the limit"):
        tokenise("prm", rows, tokenizer, 5)


@pytest.mark.heavy
def test_two_processes_train_the_same_reward_model(train: Train, tmp_path: Path) -> None:
    from hsstar.engines.training.launch import LaunchedTrainer

    settings: TrainingSettings = replace(ONE_STEP, batch_size=12, micro_batch_size=3)
    alone = train("alone", STEPS, settings)
    launched = train("launched", STEPS, settings, trainer=LaunchedTrainer(2, device="cpu"))
    assert launched.metrics["loss"] == pytest.approx(alone.metrics["loss"], abs=1e-5)
    for one, other in zip(rewards_of(alone.checkpoint), rewards_of(launched.checkpoint), strict=True):
        assert one == pytest.approx(other, abs=1e-4)
