"""Rounds a trained policy to the format of its checkpoint, and measures what formats show of its update.

Whole weights are measured as they are. Adapters beside their base are measured by the product of their two
factors, the matrix that they add to a layer: a format shows the product of the factors as it holds them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hsstar.checkpoints.adapters import (
    ADAPTER_WEIGHTS,
    adapted_layers,
    adapter_scale,
    factor_names,
    read_base,
)
from hsstar.checkpoints.files import read_json, weight_files
from hsstar.checkpoints.tensors import layer_of, tensor_names
from hsstar.domain.rounding import ALL_LAYERS, DIGITS, LEAST_EXPONENT, WeightUpdate, weight_update
from hsstar.domain.seeds import derived_seed
from hsstar.engines.loading import read_tensors
from hsstar.engines.policies import load_merged
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
    original = _originals(policy)
    sums: Sums = {}
    for file in weight_files(checkpoint):
        saved = {}
        for name, after in _tensors(file):
            kept = after
            if number_format != "float32":
                kept = saved[name] = _rounded(name, after, settings)
            if (before := original(name)) is not None:
                _add(sums, layer_of(name), _measure(before, after, kept, device))
        if saved:
            _replace(file, saved)
    if number_format != "float32":
        config = checkpoint / "config.json"
        written = json.dumps(read_json(config) | {"dtype": number_format}, indent=2)
        config.write_text(written + "\n", encoding="utf-8")
    return _figures(sums)


def save_adapter_as(
    policy: Path, checkpoint: Path, settings: TrainingSettings, device: torch.device
) -> tuple[WeightUpdate, ...]:
    """Round the float32 factors of an adapter to `settings.save_dtype`, in place, and measure their update.

    The policy is the base of the adapter, or an earlier adapter on the same base.
    """
    file = checkpoint / ADAPTER_WEIGHTS
    after = {name: tensor.float() for name, tensor in load_file(file).items()}
    before = load_file(policy / ADAPTER_WEIGHTS) if read_base(policy) else {}
    saved = after
    if settings.save_dtype != "float32":
        saved = {name: _rounded(name, tensor, settings) for name, tensor in after.items()}
        _replace(file, saved)
    scale = adapter_scale(checkpoint)
    sums: Sums = {}
    for layer in adapted_layers(after):
        old, new, kept = (_factors(tensors, layer, device) for tensors in (before, after, saved))
        update = _product(new, scale) - _product(old, scale)
        measured = {}
        for name in DIGITS:
            held, earlier = (_product(factors, scale, getattr(torch, name)) for factors in (kept, old))
            measured[name] = _sums(update.flatten(), (held - earlier).flatten())
        _add(sums, layer_of(f"{layer}.weight"), measured)
    return _figures(sums)


Factors = tuple[Tensor, Tensor] | None
"""A (rank × inputs) and B (outputs × rank) of a layer; None before it had an adapter."""


def _factors(tensors: dict[str, Tensor], layer: str, device: torch.device) -> Factors:
    names = factor_names(layer)
    if not tensors:
        return None
    down, up = (tensors[name].to(device) for name in names)
    return down, up


def _product(factors: Factors, scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return what an adapter in a format adds to its layer, (outputs, inputs), in float32."""
    if factors is None:
        return torch.zeros(())
    down, up = (tensor.to(dtype).float() for tensor in factors)
    return scale * (up @ down)


def _originals(policy: Path) -> Callable[[str], Tensor | None]:
    """Return what finds the float32 weights of a policy by name, merged with its adapter if it has one."""
    if read_base(policy):
        merged = load_merged(policy, torch.device("cpu"), torch.float32).state_dict()
        return merged.get
    known = {name for file in weight_files(policy) for name in tensor_names(file)}

    def read(name: str) -> Tensor | None:
        source = _name_in(known, name)
        return None if source is None else read_tensors(policy, [source])[0]

    return read


def _replace(file: Path, saved: dict[str, Tensor]) -> None:
    save_file(saved, file.with_suffix(".rounded"), metadata={"format": "pt"})
    file.with_suffix(".rounded").replace(file)


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
        for name, total in sums.items():
            dtype = getattr(torch, name)
            total += _sums(new - old, kept.to(dtype).float() - old.to(dtype).float())
    return sums


def _sums(update: Tensor, shown: Tensor) -> Tensor:
    """Return the five sums of flat u and r."""
    return torch.tensor(
        [
            len(update),
            _dot(update, update),
            int(shown.count_nonzero()),
            _dot(shown, update),
            _dot(shown, shown),
        ],
        dtype=torch.float64,
    )


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
