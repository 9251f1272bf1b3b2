"""What rounding leaves of a training: figures by hand, rounding to both neighbours, and the forecast."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import resolve
from hsstar.checkpoints.tensors import layer_of, sample_weights
from hsstar.domain.rounding import ALL_LAYERS, DIGITS, SampledUpdate, WeightUpdate, rounded
from hsstar.engines.sampling.contract import Completion, SampleRequest
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.training import contract, rounding
from hsstar.engines.training.rounding import round_stochastically
from hsstar.plan.rounding import foresee_update, path_lengths
from hsstar.recipe.training import TrainingSection
from tests.engines.draws import draw_all
from tests.engines.trainings import EXAMPLES, SETTINGS, Events, Train

pytestmark = pytest.mark.slow  # nearly every test trains

FORMATS = {name: getattr(torch, name) for name in DIGITS}
NUMBERS = [0.0, 1.0, -1.0, 0.1, -0.3, 3.14159, 255.5, 1.0 - 2**-9, 6.1e-5, -7e-6, 3e-8, 2**-14, -(2**-24)]
SLOW = replace(SETTINGS, learning_rate=1e-6)
HALF = replace(SLOW, save_dtype="bfloat16")


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}


def in_bfloat16(folder: Path, policy: Path) -> Path:
    """The policy with weights that bfloat16 holds exactly, as most are published."""
    shutil.copytree(policy, folder)
    halved = {name: tensor.bfloat16() for name, tensor in load_file(policy / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    return folder


def by_hand(before: dict[str, Tensor], trained: dict[str, Tensor], saved: dict[str, Tensor]) -> Iterator[Any]:
    """Layer, format, weights, norm, share changed, kept and cosine, from the definition."""
    layers = {layer_of(name) for name in trained}
    for layer in (*layers, ALL_LAYERS):
        names = [name for name in trained if layer in (ALL_LAYERS, layer_of(name))]
        first, last, kept = (
            torch.cat([tensors[name].flatten() for name in names]) for tensors in (before, trained, saved)
        )
        update = (last - first).double()
        for name, number_format in FORMATS.items():
            shown = (kept.to(number_format).double() - first.to(number_format).double()).float().double()
            along, size = float(shown @ update), float(update.norm())
            changed, share = float((shown != 0).double().mean()), along / size**2 if size else math.nan
            cosine = along / size / float(shown.norm()) if size and shown.any() else math.nan
            yield layer, name, len(update), size, changed, share, cosine


def figures(update: WeightUpdate) -> tuple[Any, ...]:
    shares = (math.nan if share is None else share for share in (update.kept, update.cosine))
    return update.weights, update.norm, update.changed, *shares


@pytest.mark.parametrize("settings", [SETTINGS, SLOW, replace(SETTINGS, lora_rank=2)])
def test_the_figures_are_those_of_the_definition(
    train: Train, policy: Path, settings: contract.TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "_CHUNK", 100)
    report = train(settings=settings)
    trained = weights(report.checkpoint)
    found = {(update.layer, update.format): figures(update) for update in report.updates}
    expected = {(layer, name): rest for layer, name, *rest in by_hand(weights(policy), trained, trained)}
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values == pytest.approx(expected[key], rel=1e-5, nan_ok=True), key
    assert {layer for layer, _ in found} > {"model.layers.0", "model.layers.1", "model.embed_tokens"}
    whole = SampledUpdate(None, report.updates)
    assert whole.kept("float32") == pytest.approx(1)


def test_a_saved_format_is_measured_from_the_weights_that_were_trained(train: Train, policy: Path) -> None:
    trained = weights(train(settings=SLOW).checkpoint)
    report = train(settings=HALF)
    saved = weights(report.checkpoint)
    assert all(torch.equal(saved[name], tensor.bfloat16().float()) for name, tensor in trained.items())
    assert read_json(report.checkpoint / "config.json")["dtype"] == "bfloat16"
    found = {update.format: figures(update) for update in report.updates if update.layer == ALL_LAYERS}
    for layer, name, *expected in by_hand(weights(policy), trained, saved):
        assert layer != ALL_LAYERS or found[name] == pytest.approx(expected, rel=1e-5)


def test_small_updates_of_published_weights_are_lost_and_kept_by_stochastic_rounding(
    train: Train, tmp_path: Path
) -> None:
    policy = in_bfloat16(tmp_path / "half", resolve("builtin:demo-policy"))
    steps = replace(SLOW, epochs=1)
    reports = [
        train(rows=EXAMPLES, settings=replace(steps, **changes), policy=policy)  # type: ignore[arg-type]  # any keys
        for changes in ({}, {"save_dtype": "bfloat16", "save_rounding": "stochastic"})
    ]
    nearest, stochastic = (SampledUpdate("bfloat16", report.updates) for report in reports)
    assert 0 < (nearest.kept("bfloat16") or 0) < 0.1 < (nearest.kept("float16") or 0) < 0.5
    assert nearest.warning is not None
    assert stochastic.kept("bfloat16") == pytest.approx(1, abs=0.2)
    assert stochastic.kept("bfloat16") == stochastic.kept("float32")
    assert stochastic.warning is None


@pytest.mark.parametrize("number_format", ["bfloat16", "float16"])
def test_the_mean_of_stochastic_rounding_is_the_weight(number_format: str) -> None:
    generator = torch.Generator().manual_seed(1)
    times = 20_000
    for value in torch.tensor(NUMBERS):
        drawn = round_stochastically(value.repeat(times), number_format, generator)
        assert torch.equal(drawn, drawn.to(FORMATS[number_format]).float())
        neighbours = sorted(set(drawn.tolist()))
        if len(neighbours) == 1:
            assert neighbours == [float(value)]
            continue
        low, high = neighbours
        assert low < value < high
        between = low + (high - low) / 2
        assert len({low, high, rounded(between, number_format)}) == 2  # nothing lies between the two
        chance = (float(value) - low) / (high - low)
        error = (high - low) * math.sqrt(chance * (1 - chance) / times)
        assert abs(float(drawn.double().mean()) - float(value)) < 5 * error


def test_a_seed_decides_how_a_checkpoint_is_rounded(train: Train) -> None:
    stochastic = replace(HALF, save_rounding="stochastic", epochs=1)
    first, again = (weights(train(settings=stochastic).checkpoint) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "model.embed_tokens.weight"
    other = (rounding._rounded(name, first[name] + 1e-5, replace(stochastic, seed=seed)) for seed in (11, 12))
    assert not torch.equal(*other)


@pytest.mark.parametrize("number_format", list(DIGITS))
def test_rounding_by_arithmetic_is_that_of_the_format(number_format: str) -> None:
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randn(2000, generator=generator) * 10.0 ** torch.randint(
        -9, 3, (2000,), generator=generator
    )
    values = torch.cat([drawn, torch.tensor(NUMBERS), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 2**-25])])
    expected = values.to(FORMATS[number_format]).tolist()
    assert [rounded(value, number_format) for value in values.tolist()] == expected


def test_a_checkpoint_in_float16_samples_on_a_cpu(train: Train) -> None:
    report = train(settings=replace(SETTINGS, save_dtype="float16"))
    assert {tensor.dtype for tensor in load_file(report.checkpoint / "model.safetensors").values()} == {
        torch.float16
    }
    sampler = TransformersSampler(report.checkpoint, device="cpu", dtype="float16")
    [drawn] = draw_all(sampler, [SampleRequest("1+1=?\n", 1)])
    assert isinstance(drawn, Completion)


def test_names_without_the_prefix_of_the_model_are_the_same_tensors(
    tmp_path: Path, policy: Path, train: Train
) -> None:
    bare = shutil.copytree(policy, tmp_path / "bare")
    stored = {name.removeprefix("model."): tensor for name, tensor in weights(policy).items()}
    trained = train(settings=SLOW).checkpoint
    expected = rounding.save_as(policy, trained, SLOW, torch.device("cpu"))
    save_file(stored, bare / "model.safetensors", {"format": "pt"})
    assert rounding.save_as(bare, trained, SLOW, torch.device("cpu")) == expected


@pytest.mark.parametrize("number_format", list(DIGITS))
def test_a_sample_of_weights_is_spread_over_all_of_them(tmp_path: Path, number_format: str) -> None:
    tensors = {
        f"t{place}": torch.arange(start, start + 1024).float().to(FORMATS[number_format]).reshape(32, 32)
        for place, start in enumerate((0, 4096, 8192))
    }
    save_file(tensors, tmp_path / "model.safetensors")
    every = [value for tensor in tensors.values() for value in tensor.flatten().tolist()]
    assert sample_weights(tmp_path, 10_000) == every
    found = sample_weights(tmp_path, 768)
    assert found == [value for start in (0, 1024, 2048) for value in every[start : start + 256]]


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant", "constant_with_warmup"])
def test_the_forecast_follows_the_schedule_of_the_training(train: Train, scheduler: Any) -> None:
    seen = Events()
    train(
        rows=EXAMPLES, settings=replace(SETTINGS, scheduler=scheduler, warmup_ratio=0.3), progress=seen.append
    )
    rates = [rate / SETTINGS.learning_rate for rate in seen.values("learning_rate")]
    assert path_lengths(scheduler, 2, 9) == pytest.approx((math.hypot(*rates), sum(rates)))


@pytest.mark.parametrize("learning_rate", [1e-6, 1e-5])
def test_what_is_kept_is_foreseen_within_the_forecasts_range(
    train: Train, tmp_path: Path, learning_rate: float
) -> None:
    policy = in_bfloat16(tmp_path / "half", resolve("builtin:demo-policy"))
    settings = replace(SETTINGS, learning_rate=learning_rate)
    measured = SampledUpdate(None, train(rows=EXAMPLES, settings=settings, policy=policy).updates)
    recipe = TrainingSection(learning_rate=learning_rate)
    sampled = sample_weights(policy, 1 << 13)
    least, most = (
        SampledUpdate(None, foresee_update(sampled, learning_rate * length, recipe))
        for length in path_lengths(settings.scheduler, 0, 9)
    )
    for number_format in ("bfloat16", "float16"):
        low, kept, high = (update.kept(number_format) or 0 for update in (least, measured, most))
        assert 0.8 * low < kept < 1.2 * high
