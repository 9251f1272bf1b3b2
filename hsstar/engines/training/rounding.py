"""Rounds a trained policy to the format of its checkpoint, and measures what formats show of its update."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hsstar.checkpoints.files import read_json, weight_files
from hsstar.checkpoints.tensors import layer_of, tensor_names
from hsstar.domain.rounding import ALL_LAYERS, DIGITS, LEAST_EXPONENT, WeightUpdate, weight_update
from hsstar.domain.seeds import derived_seed
from hsstar.engines.loading import read_tensors
from hsstar.engines.training.contract import TrainingSettings

_CHUNK = 1 << 22
"""Weights that are measured at once."""

Sums = dict[tuple[str, str], Tensor]
"""By layer and format: weights, u², how many r ≠ 0, r·u and r² in the notation of `WeightUpdate`."""


def save_as(
    policy: Path, checkpoint: Path, settings: TrainingSettings, device: torch.device
) -> tuple[WeightUpdate, ...]:
    """Round the float32 weights of a checkpoint to `settings.save_dtype`, in place, and measure their update.

    Files are read tensor by tensor, and one file at a time is written. A tensor that the policy's files do
    not have is not measured.
    """
    number_format = settings.save_dtype
    before = {name for file in weight_files(policy) for name in tensor_names(file)}
    sums: Sums = {}
    for file in weight_files(checkpoint):
        saved = {}
        for name, after in _tensors(file):
            kept = after
            if number_format != "float32":
                kept = saved[name] = _rounded(name, after, settings)
            if source := _name_in(before, name):
                [original] = read_tensors(policy, [source])
                _add(sums, layer_of(name), _measure(original, after, kept, device))
        if saved:
            save_file(saved, file.with_suffix(".rounded"), metadata={"format": "pt"})
            file.with_suffix(".rounded").replace(file)
    if number_format != "float32":
        config = checkpoint / "config.json"
        written = json.dumps(read_json(config) | {"dtype": number_format}, indent=2)
        config.write_text(written + "\n", encoding="utf-8")
    return _figures(sums)


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  # it is no mapping
            yield name, tensors.get_tensor(name).float()


def _name_in(names: set[str], name: str) -> str | None:
    """The name of a tensor in files that may leave the model's prefix out."""
    return next((known for known in (name, name.partition(".")[2]) if known in names), None)


def _rounded(name: str, weights: Tensor, settings: TrainingSettings) -> Tensor:
    if settings.save_rounding == "stochastic":
        generator = torch.Generator().manual_seed(derived_seed(settings.seed, "rounding", name))
        weights = round_stochastically(weights, settings.save_dtype, generator)
    return weights.to(getattr(torch, settings.save_dtype))


def round_stochastically(weights: Tensor, number_format: str, generator: torch.Generator) -> Tensor:
    """Round each weight up or down to a neighbour in a format, so that its expectation is the weight."""
    exponents = torch.frexp(weights).exponent - DIGITS[number_format]
    exponents = exponents.clamp_min(LEAST_EXPONENT[number_format])
    places = torch.ldexp(weights.double(), -exponents)
    chance = torch.rand(weights.shape, generator=generator, dtype=torch.float64)
    return torch.ldexp((places + chance).floor(), exponents).to(weights.dtype)


def _measure(before: Tensor, after: Tensor, saved: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return the sums of one tensor by format."""
    sums = {name: torch.zeros(5, dtype=torch.float64) for name in DIGITS}
    flat = (torch.split(tensor.flatten(), _CHUNK) for tensor in (before, after, saved))
    for old, new, kept in zip(*flat, strict=True):
        old, new, kept = old.to(device), new.to(device), kept.to(device).float()
        update = new - old
        for name, total in sums.items():
            dtype = getattr(torch, name)
            shown = kept.to(dtype).float() - old.to(dtype).float()
            total += torch.tensor(
                [
                    len(update),
                    _dot(update, update),
                    int(shown.count_nonzero()),
                    _dot(shown, update),
                    _dot(shown, shown),
                ],
                dtype=torch.float64,
            )
    return sums


def _dot(one: Tensor, other: Tensor) -> float:
    return float(torch.dot(one.double(), other.double()))


def _add(sums: Sums, layer: str, of_tensor: dict[str, Tensor]) -> None:
    for number_format, values in of_tensor.items():
        for part in (layer, ALL_LAYERS):
            sums[part, number_format] = sums.get((part, number_format), torch.zeros_like(values)) + values


def _figures(sums: Sums) -> tuple[WeightUpdate, ...]:
    return tuple(
        weight_update(layer, number_format, int(weights), *others)
        for (layer, number_format), (weights, *others) in ((key, row.tolist()) for key, row in sums.items())
    )
