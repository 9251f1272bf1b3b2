"""Training by TRL: the objectives are the method's, settings take effect, a checkpoint is whole or absent."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, relu, sigmoid
from torch.nn.functional import logsigmoid
from transformers.models.qwen2 import Qwen2Tokenizer
from trl.trainer import utils

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.domain.errors import BadInputError, EngineError, MissingDependencyError
from hsstar.domain.seeds import shuffle_key
from hsstar.engines.loading import encode_prompts
from hsstar.engines.sampling.contract import Completion, SampleRequest
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.training import contract
from hsstar.engines.training.arguments import BatchPlan, plan_batches, quantised_loading
from hsstar.engines.training.callbacks import STEP_METRICS
from hsstar.engines.training.contract import (
    TrainingExample,
    TrainingPair,
    TrainingSettings,
    TrainingStart,
    TrainingVerdict,
)
from hsstar.engines.training.data import mismatched, tokenise
from hsstar.engines.training.trl import TrlTrainer
from hsstar.recipe.training import LossType, TrainingSection
from tests.engines import tiny
from tests.engines.draws import draw_all
from tests.engines.trainings import (
    EXAMPLES,
    ONE_STEP,
    PAIRS,
    SETTINGS,
    VERDICTS,
    Events,
    Train,
    logprobs_of,
    tokens_of,
)

pytestmark = pytest.mark.slow  # nearly every test trains

BATCH_PLANS = json.loads((Path(__file__).parent / "batch_plans.json").read_text())
"""Batch and micro batch of the settings, rows, processes, epochs; micro batch, accumulation, steps."""


class WatchedTrainer(TrlTrainer):
    """Keeps the trainer of TRL, and what the trained model was given."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.trl: Any = None
        self.rows: list[tuple[list[int], list[int]]] = []  # tokens and labels, without padding
        self.formats: set[torch.dtype] = set()  # of trained weights
        self.autocast: set[bool] = set()  # whether a forward pass computed in bfloat16

    def _trainable(self, task: contract.TrainingTask) -> Any:
        model = super()._trainable(task)
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
        self.formats |= {weight.dtype for weight in model.parameters() if weight.requires_grad}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def mean_loss(policy: Path) -> float:
    """Mean negative log-likelihood of all response tokens of `EXAMPLES`."""
    return -float(torch.cat(logprobs_of(policy, [(row.prompt, row.response) for row in EXAMPLES])).mean())


@pytest.mark.parametrize("rows", [PAIRS, EXAMPLES, VERDICTS], ids=["dpo", "sft", "kto"])
def test_prompts_and_padding_skip_the_head_and_change_nothing(
    rows: list[contract.TrainingRow], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, taken = utils._ChunkedLogProbFunction, [0]

    def apply(hidden: Tensor, *others: Any) -> Any:
        taken[-1] += len(hidden)
        return head.apply(hidden, *others)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=apply))
    short = train("short", rows)
    monkeypatch.setattr("hsstar.engines.training.trl.labelled_tokens_only", nullcontext)
    taken.append(0)
    long = train("long", rows)
    assert 0 < taken[0] < taken[1]
    assert short.metrics == pytest.approx(long.metrics, rel=1e-4, abs=1e-6)
    ours, plain = weights(short.checkpoint), weights(long.checkpoint)
    assert all(torch.allclose(ours[name], plain[name], atol=1e-5) for name in plain)


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
def test_the_model_reads_all_and_learns_the_response_only(train: Train, policy: Path, rows: Any) -> None:
    watched = WatchedTrainer()
    train(rows=rows, settings=ONE_STEP, trainer=watched)
    texts = [[text for text in asdict(row).values() if isinstance(text, str)] for row in rows]
    read = [(tokens_of(policy, prompt, response)) for prompt, *said in texts for response in said]
    expected = [(prompt + response, [-100] * len(prompt) + response) for prompt, response in read]
    assert sorted(watched.rows) == sorted(expected)


@pytest.mark.parametrize("rows", [PAIRS, EXAMPLES])
@pytest.mark.parametrize(("context", "maximum"), [(14, 100), (100, 14)])
def test_no_row_is_too_long(train: Train, tmp_path: Path, rows: Any, context: int, maximum: int) -> None:
    policy = tiny.tiny_policy(tmp_path / "policy", max_position_embeddings=context)
    responses = 2 if rows is PAIRS else 1
    rows = [*rows, type(rows[0])("9" * 14, *"12"[:responses])]
    watched, seen = WatchedTrainer(), Events()
    settings = replace(ONE_STEP, maximum_tokens=maximum)
    report = train("M1", rows, settings, policy=policy, trainer=watched, progress=seen.append)
    assert max(len(tokens) for tokens, _ in watched.rows) == 14
    assert len(watched.rows) == 12 * responses
    assert (report.examples, report.truncated, report.metrics["left_out"]) == (12, 12, 1)
    left_out = {"prompt fills the limit": 1}
    assert seen.start == TrainingStart(1, 0, 12, 12, left_out, seen.start.lengths)
    assert seen.start.lengths["prompt"]["max"] == 14


@pytest.mark.parametrize(("dtype", "lora_rank"), [("float32", 0), ("bfloat16", 0), ("bfloat16", 2)])
def test_trained_weights_are_float32_and_all_else_as_the_settings_say(
    train: Train, dtype: Literal["float32", "bfloat16"], lora_rank: int
) -> None:
    watched = WatchedTrainer()
    report = train(settings=replace(ONE_STEP, dtype=dtype, lora_rank=lora_rank), trainer=watched)
    assert watched.formats == {torch.float32}
    frozen = {weight.dtype for weight in watched.trl.model.parameters() if not weight.requires_grad}
    assert frozen == ({torch.bfloat16} if lora_rank else set())
    assert watched.autocast == {dtype == "bfloat16"}
    assert lora_rank or watched.trl.ref_model.dtype == getattr(torch, dtype)
    assert (watched.trl.args.disable_dropout, watched.trl.args.gradient_checkpointing) == (True, False)
    assert {tensor.dtype for tensor in weights(report.checkpoint).values()} == {torch.float32}


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
    """Those that change no loss and no length."""
    watched = WatchedTrainer()
    memory = replace(SETTINGS, precompute_reference_logprobs=True, gradient_checkpointing=True)
    adapters = replace(memory, lora_rank=3, lora_alpha=5.0, lora_dropout=0.25, label_smoothing=0.2)
    train(settings=replace(adapters, loss_type="robust", nll_weight=0.3), trainer=watched)
    given, trained = watched.trl.args, watched.trl.model.peft_config["default"]
    assert (given.per_device_train_batch_size, given.gradient_accumulation_steps) == (2, 2)
    assert (given.precompute_ref_log_probs, given.gradient_checkpointing) == (True, True)
    assert (given.loss_type, given.loss_weights, given.label_smoothing) == (
        ["robust", "sft"],
        [1.0, 0.3],
        0.2,
    )
    assert (given.disable_dropout, given.max_length, watched.trl.ref_model) == (False, None, None)
    assert (trained.r, trained.lora_alpha, trained.lora_dropout) == (3, 5.0, 0.25)


def test_a_recipe_without_settings_trains_with_those_of_the_method() -> None:
    defaults = TrainingSettings(5e-7, 256, 1.0, 0.03, "cosine", maximum_tokens=2048, seed=7)
    assert contract.training_settings(TrainingSection(), 7) == defaults
    quantised = replace(defaults, lora_rank=4, quantization="4bit")
    assert contract.training_settings(TrainingSection(lora_rank=4, quantization="4bit"), 7) == quantised


def test_what_cannot_be_done_is_said(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = replace(ONE_STEP, lora_rank=2)
    quantised = replace(adapters, quantization="4bit")
    with pytest.raises(EngineError, match="quantization = '4bit' needs an NVIDIA GPU"):
        train(settings=quantised)
    with pytest.raises(EngineError, match="sharding = 'fsdp2' shares a model among several processes"):
        train(settings=replace(ONE_STEP, sharding="fsdp2"))
    monkeypatch.setattr("hsstar.engines.training.arguments.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"lora_rank needs peft.*pip install 'hsstar\[train\]'"):
        train(settings=adapters)
    with pytest.raises(MissingDependencyError, match=r"4bit' needs bitsandbytes.*pip install bitsandbytes"):
        quantised_loading(quantised, torch.device("cuda"))
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_samples_like_its_parent_does(train: Train, tmp_path: Path, policy: Path) -> None:
    parent = shutil.copytree(policy, tmp_path / "parent")
    kept = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    for name in ("chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "merges.txt"):
        (parent / name).write_text("{}")
        kept.add(name)
    (parent / "README.md").write_text("not of the child")
    child = train("deep/M1", settings=ONE_STEP, policy=parent).checkpoint
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

    def look(event: contract.TrainingEvent) -> None:
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
    assert seen.start == TrainingStart(9, 0, 12, 0, {}, seen.start.lengths)
    assert seen.start.lengths["rejected"] == {"min": 11, "median": 11, "p90": 12, "p99": 12, "max": 12}
    assert [(step.step, step.steps) for step in seen.steps] == [(step, 9) for step in range(1, 10)]
    assert len(seen) == 10
    for name in set(STEP_METRICS) - {"kl"}:  # of KTO
        values = seen.values(name)
        assert report.metrics[name] == pytest.approx(sum(values) / 9)
        assert report.metrics[f"last/{name}"] == values[-1]
    assert all(0 < speed < 1e7 for speed in seen.values("tokens_per_second"))
    assert capfd.readouterr() == ("", "")


def test_micro_batches_make_up_the_batch() -> None:
    for batch_size, micro, rows, processes, epochs, *plan in BATCH_PLANS:
        settings = replace(SETTINGS, batch_size=batch_size, micro_batch_size=micro, epochs=epochs)
        assert plan_batches(settings, rows, processes) == BatchPlan(*plan)


def test_the_prompt_is_tokenised_as_for_sampling_and_the_response_ends() -> None:
    tokenizer = tiny.qwen_tokenizer()
    [row] = tokenise("dpo", [TrainingPair("1+1=?\n", "two\n\nend", "one")], tokenizer, 100).rows
    assert row["prompt_ids"] == encode_prompts(tokenizer, ["1+1=?\n"])[0]
    responses = [tokenizer.decode(row[name]) for name in ("chosen_ids", "rejected_ids")]
    assert responses == ["two\n\nend" + tiny.END, "one" + tiny.END]


def test_the_beginning_of_text_token_stands_in_front_once() -> None:
    tokenizer = tiny.beginning_tokenizer()
    [row] = tokenise("dpo", [TrainingPair("ab", "cd", "ef")], tokenizer, 100).rows
    assert row["prompt_ids"] == encode_prompts(tokenizer, ["ab"])[0]
    assert row["prompt_ids"].count(tokenizer.bos_token_id) == 1
    assert tokenizer.bos_token_id not in row["chosen_ids"] + row["rejected_ids"]


def test_a_token_that_merges_over_the_border_leaves_the_prompt_whole() -> None:
    letters = {letter: n for n, letter in enumerate([tiny.END, "a", "b", "Ċ", "ĊĊ"])}
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[("Ċ", "Ċ")])
    assert tokenizer("a\n\nb")["input_ids"] == [1, 4, 2]
    [row] = tokenise("sft", [TrainingExample("a\n", "\nb")], tokenizer, 100).rows
    assert (row["input_ids"], row["labels"]) == ([1, 3, 3, 2, 0], [-100, -100, 3, 2, 0])


def test_long_responses_are_cut_and_prompts_without_room_left_out_and_both_are_counted() -> None:
    pairs = [TrainingPair("p" * 4, "c" * 20, "r" * 3), TrainingPair("p" * 4, "c" * 5, "r" * 5)]
    data = tokenise("dpo", [*pairs, TrainingPair("p" * 10, "c", "r")], tiny.qwen_tokenizer(), 10)
    assert [(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in data.rows] == [(6, 4), (6, 6)]
    assert (data.truncated, data.left_out) == (1, {"prompt fills the limit": 1})
    examples = [TrainingExample("p" * 10, "r"), TrainingExample("p", "r" * 30)]
    data = tokenise("sft", examples, tiny.qwen_tokenizer(), 10)
    assert [len(row["input_ids"]) for row in data.rows] == [10]
    assert (data.truncated, data.left_out) == (1, {"prompt fills the limit": 1})


@pytest.mark.parametrize("pairs", [[], [TrainingPair("p" * 50, "c", "r")]])
def test_nothing_to_train_on_is_an_error(pairs: list[TrainingPair]) -> None:
    with pytest.raises(BadInputError, match="nothing to train on"):
        tokenise("dpo", pairs, tiny.qwen_tokenizer(), 20)


SIX_PAIRS = [TrainingPair(f"{n}+1=?\n", f"It is {n + 1}.\n\nYes.", "No idea" + "!" * n) for n in range(6)]
BETA = 0.3
TWO_STEPS = TrainingSettings(5e-3, 6, 2, 0.0, "constant", maximum_tokens=100, seed=3, beta=BETA)


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
    chosen = logprobs_of(policy, [(pair.prompt, pair.chosen) for pair in SIX_PAIRS])
    return [chosen, logprobs_of(policy, [(pair.prompt, pair.rejected) for pair in SIX_PAIRS])]


def log_ratios(policy: Path, reference: Path) -> list[Tensor]:
    """Log-ratios of each chosen and each rejected response."""
    logps = [
        [torch.stack([row.sum() for row in rows]) for rows in response_logprobs(one)]
        for one in (policy, reference)
    ]
    return [mine - its for mine, its in zip(*logps, strict=True)]


@pytest.mark.parametrize(
    "loss_type",
    [
        pytest.param(name, marks=() if name in ("sigmoid", "ipo", "exo_pair") else pytest.mark.heavy)
        for name in get_args(LossType)
    ],
)
def test_a_loss_is_what_the_log_probabilities_give(train: Train, policy: Path, loss_type: str) -> None:
    """The first step is taken from the reference itself, the second from a policy that has moved."""
    settings = replace(TWO_STEPS, loss_type=loss_type, label_smoothing=SMOOTHED.get(loss_type, 0.0))
    seen = Events()
    train("M2", SIX_PAIRS, settings, progress=seen.append)
    first, second = seen.values("loss")
    assert math.isfinite(second) and second != first
    if loss_type not in BY_HAND:
        return
    lengths = [torch.tensor([len(row) for row in rows]) for rows in response_logprobs(policy)]
    moved = train("moved", SIX_PAIRS, replace(settings, epochs=1)).checkpoint
    for step, stepped_from in zip(seen.steps, (policy, moved), strict=True):
        ratios = log_ratios(stepped_from, policy)
        loss = float(BY_HAND[loss_type](*ratios, *lengths).mean())
        assert step.metrics["loss"] == pytest.approx(loss, abs=2e-4)
        rewards = [float(BETA * ratio.mean()) for ratio in ratios]
        curves = [step.metrics[f"rewards/{name}"] for name in ("chosen", "rejected", "margins")]
        assert curves == pytest.approx([*rewards, rewards[0] - rewards[1]], abs=2e-3)


SIX_VERDICTS = [
    TrainingVerdict(pair.prompt, pair.chosen if place % 2 else pair.rejected, place % 2 == 1)
    for place, pair in enumerate(SIX_PAIRS)
]
OF_KTO = replace(TWO_STEPS, desirable_weight=1.5, undesirable_weight=0.5)


def kto_by_hand(moved: Path, reference: Path) -> tuple[float, float, float, float]:
    """Loss, KL, and mean rewards of the desirable and undesirable rows, from plain forward passes."""
    order = sorted(range(6), key=lambda place: shuffle_key(3, "kto", place))
    shuffled = [SIX_VERDICTS[place] for place in order]
    texts = [(row.prompt, row.response) for row in shuffled]
    swapped = [(row.prompt, shuffled[place - 1].response) for place, row in enumerate(shuffled)]
    ratios, apart = (
        torch.stack(
            [
                after.sum() - before.sum()
                for after, before in zip(
                    logprobs_of(moved, asked), logprobs_of(reference, asked), strict=True
                )
            ]
        )
        for asked in (texts, swapped)
    )
    kl = apart.mean().clamp(min=0)
    good = torch.tensor([row.desirable for row in shuffled])
    losses = torch.where(
        good, 1.5 * (1 - sigmoid(BETA * (ratios - kl))), 0.5 * (1 - sigmoid(BETA * (kl - ratios)))
    )
    rewards = BETA * ratios
    return float(losses.mean()), float(kl), float(rewards[good].mean()), float(rewards[~good].mean())


def test_the_loss_of_kto_is_what_the_log_probabilities_give(train: Train, policy: Path) -> None:
    seen = Events()
    train("M2", SIX_VERDICTS, OF_KTO, progress=seen.append)
    moved = train("moved", SIX_VERDICTS, replace(OF_KTO, epochs=1)).checkpoint
    for step, stepped_from in zip(seen.steps, (policy, moved), strict=True):
        found = [step.metrics[name] for name in ("loss", "kl", "rewards/chosen", "rewards/rejected")]
        assert found == pytest.approx(kto_by_hand(stepped_from, policy), abs=2e-3)
    assert seen.values("loss")[0] == pytest.approx((3 * 1.5 + 3 * 0.5) / 6 / 2, abs=1e-5)


def test_what_spares_memory_changes_nothing_of_kto(train: Train) -> None:
    usual = replace(OF_KTO, micro_batch_size=3)
    spared = replace(usual, precompute_reference_logprobs=True, gradient_checkpointing=True)
    metrics = [train(rows=SIX_VERDICTS, settings=settings).metrics for settings in (usual, spared)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4, "learning_rate": 2e-2}])
def test_the_policy_learns_what_is_desirable(train: Train, policy: Path, changes: dict[str, Any]) -> None:
    settings = replace(OF_KTO, epochs=8, **changes)
    report = train(rows=SIX_VERDICTS, settings=settings)
    _, _, desirable, undesirable = kto_by_hand(report.checkpoint, policy)
    assert desirable - undesirable > 0.3
    assert report.metrics["last/loss"] < report.metrics["loss"] < 0.5


def test_kto_compares_the_samples_of_a_pass(train: Train) -> None:
    with pytest.raises(EngineError, match="to an even multiple of the processes"):
        train(rows=SIX_VERDICTS, settings=replace(OF_KTO, batch_size=3, micro_batch_size=2))


@pytest.mark.parametrize("pass_size", [2, 4, 5])
def test_each_row_of_kto_has_the_response_of_its_neighbour_in_the_pass(pass_size: int) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt_ids": [0] * (n % 4 + 1), "completion_ids": [n] * 3, "label": n % 2 == 0} for n in range(11)
    ]
    found = mismatched(rows, pass_size, 5, seed=1)
    assert sorted(row["completion_ids"] for row in found) == sorted(row["completion_ids"] for row in rows)
    for start in range(0, 11, pass_size):
        together = found[start : start + pass_size]
        for place, row in enumerate(together):
            room = 5 - len(row["prompt_ids"])
            assert row["KL_completion_ids"] == together[place - 1]["completion_ids"][:room]
    assert found == mismatched(rows, pass_size, 5, seed=1)
    assert found != mismatched(rows, pass_size, 5, seed=2)


def test_precomputed_reference_log_probabilities_change_nothing(train: Train) -> None:
    spared = replace(TWO_STEPS, precompute_reference_logprobs=True, gradient_checkpointing=True)
    metrics = [train(rows=SIX_PAIRS, settings=settings).metrics for settings in (TWO_STEPS, spared)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4, "learning_rate": 2e-2}])
def test_the_policy_learns_the_preferences(train: Train, policy: Path, changes: dict[str, float]) -> None:
    """Measured on the checkpoint by hand; adapters are merged into it."""
    seen = Events()
    settings = replace(TWO_STEPS, epochs=6, **changes)  # type: ignore[arg-type]
    report = train(rows=SIX_PAIRS, settings=settings, progress=seen.append)
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
    before, after = weights(policy), weights(train(rows=SIX_PAIRS, settings=settings).checkpoint)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("q_proj.weight")}
