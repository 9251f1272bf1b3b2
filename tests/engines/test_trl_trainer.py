"""Training by TRL: the objectives are the method's, and a checkpoint is whole or absent."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.domain.errors import EngineError
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.training.arguments import plan_batches
from hsstar.engines.training.callbacks import STEP_METRICS
from hsstar.engines.training.contract import (
    TrainingEvent,
    TrainingExample,
    TrainingPair,
    TrainingSettings,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.data import tokenise
from hsstar.engines.training.trl import TrlTrainer
from tests.engines import tiny

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
ONE_STEP = replace(SETTINGS, epochs=1, batch_size=256, micro_batch_size=256)


@pytest.fixture
def trainer() -> TrlTrainer:
    return TrlTrainer(device="cpu")


def mean_loss(policy: Path, rows: list[dict[str, list[int]]]) -> float:
    """Mean negative log-likelihood of all labelled tokens, row by row without padding."""
    model = AutoModelForCausalLM.from_pretrained(policy)
    losses = []
    for row in rows:
        with torch.inference_mode():
            logprobs = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        losses += [
            -float(logprobs[place - 1, label]) for place, label in enumerate(row["labels"]) if label != -100
        ]
    return sum(losses) / len(losses)


def test_dpo_lowers_its_loss_and_learns_the_preference(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    report = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "M1"))

    assert report.metrics["last/loss"] < 0.5 * math.log(2)
    assert report.metrics["last/rewards/accuracies"] == 1.0
    assert report.metrics["last/rewards/margins"] > 0.5
    assert (report.examples, report.truncated, report.steps) == (12, 0, 9)


def test_the_first_dpo_loss_is_ln_2(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    report = trainer.train(TrainingTask("dpo", policy, PAIRS, ONE_STEP, tmp_path / "M1"))

    assert report.steps == 1
    assert report.metrics["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert report.metrics["rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_the_nll_term_adds_the_mean_loss_of_the_chosen_responses(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    report = trainer.train(
        TrainingTask("dpo", policy, PAIRS, replace(ONE_STEP, nll_weight=0.3), tmp_path / "M1")
    )

    rows = tokenise("sft", EXAMPLES, load_tokenizer(policy), 100).rows
    expected = math.log(2) + 0.3 * mean_loss(policy, rows)
    assert report.metrics["loss"] == pytest.approx(expected, abs=1e-3)


def test_fewer_pairs_than_a_batch_still_train(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    report = trainer.train(
        TrainingTask("dpo", policy, PAIRS[:3], replace(ONE_STEP, micro_batch_size=8), tmp_path / "M1")
    )

    before = AutoModelForCausalLM.from_pretrained(policy).lm_head.weight
    after = AutoModelForCausalLM.from_pretrained(report.checkpoint).lm_head.weight
    assert report.steps == 1
    assert (after - before).abs().max() > 1e-4


def test_the_first_sft_loss_is_that_of_the_response_tokens(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    report = trainer.train(TrainingTask("sft", policy, EXAMPLES, ONE_STEP, tmp_path / "M0"))

    rows = tokenise("sft", EXAMPLES, load_tokenizer(policy), 100).rows
    assert report.metrics["loss"] == pytest.approx(mean_loss(policy, rows), abs=1e-3)


def test_sft_lowers_its_loss(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e-2)

    report = trainer.train(TrainingTask("sft", policy, EXAMPLES, settings, tmp_path / "M0"))

    rows = tokenise("sft", EXAMPLES, load_tokenizer(policy), 100).rows
    assert mean_loss(report.checkpoint, rows) < 0.7 * mean_loss(policy, rows)


def test_the_checkpoint_samples_like_its_parent_does(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    report = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "deep" / "M1"))

    assert report.checkpoint == tmp_path / "deep" / "M1"
    assert check_policy(report.checkpoint).architecture == "Qwen2ForCausalLM"
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (report.checkpoint / name).read_bytes() == (policy / name).read_bytes()
    sampler = TransformersSampler(report.checkpoint, device="cpu")
    (drawn,) = tiny.draw_all(sampler, [SampleRequest("1+1=?\n", 1)], SamplingParameters(0.7, 0.95, 10))
    assert isinstance(drawn, Completion)


def test_a_seed_decides_the_checkpoint(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    one = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "one")).checkpoint
    again = trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "again")).checkpoint
    other = trainer.train(
        TrainingTask("dpo", policy, PAIRS, replace(SETTINGS, seed=12), tmp_path / "other")
    ).checkpoint

    assert fingerprint(one) == fingerprint(again)
    assert fingerprint(one) != fingerprint(other)


def test_an_interrupted_training_leaves_nothing(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    def interrupt(event: TrainingEvent) -> None:
        if isinstance(event, TrainingStep) and event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "M1"), interrupt)

    assert list(tmp_path.iterdir()) == []


def test_a_repetition_replaces_the_checkpoint(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    output = tmp_path / "M1"
    trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, output))
    first = fingerprint(output)
    (output / "stale").touch()

    trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, output))

    assert fingerprint(output) == first
    assert not (output / "stale").exists()
    assert list(tmp_path.iterdir()) == [output]


def test_a_diverged_training_is_an_error(trainer: TrlTrainer, policy: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="diverged"):
        trainer.train(
            TrainingTask("sft", policy, EXAMPLES, replace(SETTINGS, learning_rate=1e30), tmp_path / "M0")
        )

    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_and_the_console_stays_quiet(
    trainer: TrlTrainer, policy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[TrainingEvent] = []

    trainer.train(TrainingTask("dpo", policy, PAIRS, SETTINGS, tmp_path / "M1"), seen.append)
    trainer.train(TrainingTask("sft", policy, EXAMPLES, ONE_STEP, tmp_path / "M0"))

    start, *steps = seen
    assert isinstance(start, TrainingStart)
    assert (start.steps, start.resumed_at, start.examples, start.truncated, start.left_out) == (
        9,
        0,
        12,
        0,
        0,
    )
    assert start.lengths["rejected"] == {"min": 11, "median": 11, "p90": 12, "p99": 12, "max": 12}
    assert [(step.step, step.steps) for step in steps if isinstance(step, TrainingStep)] == [
        (step, 9) for step in range(1, 10)
    ]
    assert all(
        {*STEP_METRICS, "tokens_per_second"} <= step.metrics.keys()
        for step in steps
        if isinstance(step, TrainingStep)
    )
    assert len(steps) == 9
    assert capfd.readouterr() == ("", "")


def test_the_weights_are_saved_in_the_number_format_of_the_settings(
    trainer: TrlTrainer, policy: Path, tmp_path: Path
) -> None:
    report = trainer.train(
        TrainingTask("sft", policy, EXAMPLES, replace(ONE_STEP, dtype="bfloat16"), tmp_path / "M0")
    )

    half = AutoModelForCausalLM.from_pretrained(report.checkpoint, dtype="auto")
    whole = AutoModelForCausalLM.from_pretrained(policy, dtype="auto")
    assert (half.dtype, whole.dtype) == (torch.bfloat16, torch.float32)


def test_training_from_a_folder_contacts_nobody(policy: Path, tmp_path: Path) -> None:
    script = (
        "import os, socket\n"
        "def refuse(*address, **_): os._exit(3)\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from pathlib import Path\n"
        "from hsstar.engines.training.contract import TrainingTask\n"
        "from tests.engines.test_trl_trainer import PAIRS, ONE_STEP\n"
        "from hsstar.engines.registry import build_trainer\n"
        f"policy, output = Path({str(policy)!r}), Path({str(tmp_path / 'M1')!r})\n"
        "build_trainer(device='cpu').train(TrainingTask('dpo', policy, PAIRS, ONE_STEP, output))\n"
    )
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}

    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], env=online, cwd=root).returncode == 0


@pytest.mark.parametrize(
    ("batch_size", "micro", "rows", "processes", "plan"),
    [
        (256, 8, 1000, 1, (8, 32, 4)),
        (256, 8, 1000, 4, (8, 8, 4)),
        (10, 8, 25, 1, (5, 2, 3)),
        (256, 8, 3, 1, (8, 32, 1)),
        (1, 8, 3, 1, (1, 1, 3)),
        (2, 8, 8, 4, (1, 1, 2)),
    ],
)
def test_micro_batches_make_up_the_batch(
    batch_size: int, micro: int, rows: int, processes: int, plan: tuple[int, int, int]
) -> None:
    settings = replace(SETTINGS, batch_size=batch_size, micro_batch_size=micro, epochs=1)

    made = plan_batches(settings, rows, processes)

    assert (made.micro_batch_size, made.accumulation, made.steps) == plan
