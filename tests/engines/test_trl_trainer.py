"""Training by TRL: the objectives are the method's, settings take effect, a checkpoint is whole or absent."""

import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.domain.errors import EngineError, MissingDependencyError
from hsstar.engines.sampling.contract import Completion, SampleRequest
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.training.arguments import BatchPlan, plan_batches, quantised_loading
from hsstar.engines.training.callbacks import STEP_METRICS
from hsstar.engines.training.contract import (
    TrainingEvent,
    TrainingRow,
    TrainingSettings,
    TrainingStart,
    training_settings,
)
from hsstar.engines.training.trl import TrlTrainer
from hsstar.recipe.training import TrainingSection
from tests.engines import tiny
from tests.engines.draws import draw_all
from tests.engines.trainings import (
    EXAMPLES,
    ONE_STEP,
    PAIRS,
    SETTINGS,
    Events,
    Train,
    logprobs_of,
    tokens_of,
    train_in,
)


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
        model.base_model.register_forward_pre_hook(
            lambda *_: self.autocast.add(torch.is_autocast_enabled("cpu"))
        )
        return model

    def _trl_trainer(self, *arguments: Any, **parts: Any) -> Any:
        self.trl = super()._trl_trainer(*arguments, **parts)
        return self.trl

    def _see(self, model: Any, _: Any, given: dict[str, Any]) -> None:
        masks = given["attention_mask"].bool()
        for tokens, mask, labels in zip(given["input_ids"], masks, given["labels"], strict=True):
            assert (labels[~mask] == -100).all(), "padding reaches the loss"
            self.rows.append((tokens[mask].tolist(), labels[mask].tolist()))
        self.formats |= {weight.dtype for weight in model.parameters()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def mean_loss(policy: Path) -> float:
    """Mean negative log-likelihood of all response tokens of `EXAMPLES`."""
    return -float(torch.cat(logprobs_of(policy, [(row.prompt, row.response) for row in EXAMPLES])).mean())


def test_the_nll_term_adds_the_mean_loss_of_the_chosen_responses(train: Train, policy: Path) -> None:
    report = train(settings=replace(ONE_STEP, nll_weight=0.3))
    assert report.steps == 1
    assert report.metrics["loss"] == pytest.approx(math.log(2) + 0.3 * mean_loss(policy), abs=1e-3)
    assert report.metrics["rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_the_first_sft_loss_is_that_of_the_response_tokens_and_it_falls(train: Train, policy: Path) -> None:
    seen = Events()
    settings = replace(ONE_STEP, epochs=9, learning_rate=1e-2)
    report = train(rows=EXAMPLES, settings=settings, progress=seen.append)
    assert seen.values("loss")[0] == pytest.approx(mean_loss(policy), abs=1e-3)
    assert mean_loss(report.checkpoint) < 0.7 * mean_loss(policy)


@pytest.mark.parametrize("rows", [PAIRS, EXAMPLES])
def test_the_model_reads_prompt_and_response_and_learns_the_response_only(
    train: Train, policy: Path, rows: list[TrainingRow]
) -> None:
    watched = WatchedTrainer()
    train(rows=rows, settings=ONE_STEP, trainer=watched)
    texts = [list(asdict(row).values()) for row in rows]
    read = [(tokens_of(policy, prompt, response)) for prompt, *said in texts for response in said]
    expected = [(prompt + response, [-100] * len(prompt) + response) for prompt, response in read]
    assert sorted(watched.rows) == sorted(expected)


@pytest.mark.parametrize("rows", [PAIRS, EXAMPLES])
@pytest.mark.parametrize(("context", "maximum"), [(14, 100), (100, 14)])
def test_no_row_is_longer_than_the_context_or_the_settings_allow(
    tmp_path: Path, rows: Any, context: int, maximum: int
) -> None:
    policy = tiny.tiny_policy(tmp_path / "policy", max_position_embeddings=context)
    responses = len(asdict(rows[0])) - 1
    rows = [*rows, type(rows[0])("9" * 14, *["1"] * responses)]
    watched, seen = WatchedTrainer(), Events()
    settings = replace(ONE_STEP, maximum_tokens=maximum)
    report = train_in(tmp_path, policy, "M", rows, settings, trainer=watched, progress=seen.append)
    assert max(len(tokens) for tokens, _ in watched.rows) == 14
    assert len(watched.rows) == 12 * responses
    assert (report.examples, report.truncated, report.metrics["left_out"]) == (12, 12, 1)
    assert seen.start == TrainingStart(1, 0, 12, 12, 1, seen.start.lengths)
    assert seen.start.lengths["prompt"]["max"] == 14


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trained_weights_are_float32_and_arithmetic_and_checkpoint_as_the_settings_say(
    train: Train, dtype: Literal["float32", "bfloat16"]
) -> None:
    watched = WatchedTrainer()
    report = train(settings=replace(ONE_STEP, dtype=dtype), trainer=watched)
    assert watched.formats == {torch.float32}
    assert watched.autocast == {dtype == "bfloat16"}
    assert watched.trl.ref_model.dtype == getattr(torch, dtype)
    assert (watched.trl.args.disable_dropout, watched.trl.args.gradient_checkpointing) == (True, False)
    assert {tensor.dtype for tensor in weights(report.checkpoint).values()} == {getattr(torch, dtype)}


def test_frozen_weights_under_adapters_have_the_format_of_the_arithmetic(train: Train) -> None:
    watched = WatchedTrainer()
    train(settings=replace(ONE_STEP, dtype="bfloat16", lora_rank=2), trainer=watched)
    formats = {(weight.requires_grad, weight.dtype) for weight in watched.trl.model.parameters()}
    assert formats == {(False, torch.bfloat16), (True, torch.float32)}


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("constant", [1] * 9),
        ("constant_with_warmup", [0, 0.5, *[1] * 7]),
        ("linear", [0, 0.5, *[1 - n / 7 for n in range(7)]]),
        ("cosine", [0, 0.5, *[0.5 + 0.5 * math.cos(math.pi * n / 7) for n in range(7)]]),
    ],
)
def test_the_learning_rate_follows_the_schedule(train: Train, scheduler: str, rates: list[float]) -> None:
    """Nine steps, of which 0.3 warm up: two, rounded down."""
    seen = Events()
    settings = replace(SETTINGS, scheduler=scheduler, warmup_ratio=0.3, learning_rate=2e-4)
    train(rows=EXAMPLES, settings=settings, progress=seen.append)
    assert seen.values("learning_rate") == pytest.approx([2e-4 * rate for rate in rates], abs=1e-10)


def test_weight_decay_shrinks_matrices_beside_the_step(train: Train, policy: Path) -> None:
    plain, decayed = (
        weights(train(rows=EXAMPLES, settings=replace(ONE_STEP, weight_decay=decay)).checkpoint)
        for decay in (0.0, 0.5)
    )
    for name, weight in weights(policy).items():
        assert (plain[name] != weight).any(), name
        shrunk = 0.5 * ONE_STEP.learning_rate * weight if weight.dim() > 1 else torch.zeros_like(weight)
        assert torch.allclose(plain[name] - decayed[name], shrunk, atol=1e-6), name


def test_the_settings_reach_the_trainer(train: Train) -> None:
    watched = WatchedTrainer()
    settings = replace(
        SETTINGS, epochs=2, beta=0.7, loss_type="robust", label_smoothing=0.2, nll_weight=0.3,
        precompute_reference_logprobs=True, gradient_checkpointing=True, lora_rank=3, lora_alpha=5.0,
        lora_dropout=0.25, lora_target_modules=("q_proj", "v_proj"),
    )  # fmt: skip
    train(settings=settings, trainer=watched)
    expected: dict[str, Any] = {
        "seed": 11, "num_train_epochs": 2, "max_length": None, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "beta": 0.7, "label_smoothing": 0.2,
        "loss_type": ["robust", "sft"], "loss_weights": [1.0, 0.3], "precompute_ref_log_probs": True,
        "gradient_checkpointing": True, "disable_dropout": False,
    }  # fmt: skip
    assert {name: getattr(watched.trl.args, name) for name in expected} == expected
    assert watched.trl.ref_model is None
    adapters = watched.trl.model.peft_config["default"]
    assert (adapters.r, adapters.lora_alpha, adapters.lora_dropout) == (3, 5.0, 0.25)
    assert set(adapters.target_modules) == {"q_proj", "v_proj"}


def test_a_recipe_without_settings_trains_with_those_of_the_method() -> None:
    defaults = TrainingSettings(5e-7, 256, 1.0, 0.03, "cosine", maximum_tokens=2048, seed=7)
    assert training_settings(TrainingSection(), 7) == defaults
    quantised = replace(defaults, lora_rank=4, quantization="4bit")
    assert training_settings(TrainingSection(lora_rank=4, quantization="4bit"), 7) == quantised


def test_a_missing_package_for_adapters_is_named(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsstar.engines.training.arguments.find_spec", lambda name: None)
    adapters = replace(ONE_STEP, lora_rank=2)
    with pytest.raises(MissingDependencyError, match=r"lora_rank needs peft.*pip install 'hsstar\[train\]'"):
        train(settings=adapters)
    with pytest.raises(MissingDependencyError, match=r"4bit' needs bitsandbytes.*pip install bitsandbytes"):
        quantised_loading(replace(adapters, quantization="4bit"), torch.device("cuda"))


def test_the_checkpoint_samples_like_its_parent_does(tmp_path: Path, policy: Path) -> None:
    parent = shutil.copytree(policy, tmp_path / "parent")
    kept = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    for name in ("chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "merges.txt"):
        (parent / name).write_text("{}")
        kept.add(name)
    (parent / "README.md").write_text("not of the child")
    child = train_in(tmp_path, parent, "deep/M1", settings=ONE_STEP).checkpoint
    assert child == tmp_path / "deep" / "M1"
    assert check_policy(child).architecture == "Qwen2ForCausalLM"
    assert {file.name for file in child.iterdir()} == kept | {"config.json", "model.safetensors"}
    assert all((child / name).read_bytes() == (parent / name).read_bytes() for name in kept)
    (child / "chat_template.jinja").unlink()
    [drawn] = draw_all(TransformersSampler(child, device="cpu"), [SampleRequest("1+1=?\n", 1)])
    assert isinstance(drawn, Completion)


def test_a_seed_decides_the_checkpoint_and_a_repetition_replaces_it(train: Train, tmp_path: Path) -> None:
    first = fingerprint(train().checkpoint)
    (tmp_path / "M1" / "stale").touch()
    assert fingerprint(train().checkpoint) == first
    assert not (tmp_path / "M1" / "stale").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "M1"]
    assert fingerprint(train(settings=replace(SETTINGS, seed=12)).checkpoint) != first


def test_an_interrupted_training_leaves_nothing(train: Train, tmp_path: Path) -> None:
    beside: set[str] = set()
    stop = Events().stop_at(2)

    def look(event: TrainingEvent) -> None:
        beside.update(path.name[:4] for path in tmp_path.iterdir())
        stop(event)

    with pytest.raises(KeyboardInterrupt):
        train(progress=look)
    assert beside == {".M1."}  # it is written where it can be renamed
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_training_is_an_error(train: Train, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"diverged in step \d of 9.* lower the learning rate"):
        train(rows=EXAMPLES, settings=replace(SETTINGS, learning_rate=1e30))
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_and_the_console_quiet(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    seen = Events()
    report = train(progress=seen.append)
    train("M0", EXAMPLES, ONE_STEP)
    assert seen.start == TrainingStart(9, 0, 12, 0, 0, seen.start.lengths)
    assert seen.start.lengths["rejected"] == {"min": 11, "median": 11, "p90": 12, "p99": 12, "max": 12}
    assert [(step.step, step.steps) for step in seen.steps] == [(step, 9) for step in range(1, 10)]
    assert len(seen) == 10
    for name in STEP_METRICS:
        values = seen.values(name)
        assert report.metrics[name] == pytest.approx(sum(values) / 9)
        assert report.metrics[f"last/{name}"] == values[-1]
    assert all(0 < speed < 1e7 for speed in seen.values("tokens_per_second"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("batch_size", "micro", "rows", "processes", "epochs", "plan"),
    [
        (256, 8, 1000, 1, 1, (8, 32, 4)),
        (256, 8, 1000, 4, 1, (8, 8, 4)),
        (256, 8, 1000, 4, 2.5, (8, 8, 10)),
        (4, 2, 10, 1, 1.5, (2, 2, 5)),
        (10, 8, 25, 1, 1, (5, 2, 3)),
        (256, 8, 3, 1, 1, (8, 32, 1)),
        (1, 8, 3, 1, 1, (1, 1, 3)),
        (2, 8, 8, 4, 1, (1, 1, 2)),
    ],
)
def test_micro_batches_make_up_the_batch(
    batch_size: int, micro: int, rows: int, processes: int, epochs: float, plan: tuple[int, int, int]
) -> None:
    settings = replace(SETTINGS, batch_size=batch_size, micro_batch_size=micro, epochs=epochs)
    assert plan_batches(settings, rows, processes) == BatchPlan(*plan)
