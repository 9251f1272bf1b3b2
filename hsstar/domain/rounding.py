"""What rounding to a number format leaves of a training: policies are trained in float32, sampled in another.

A weight that moves by less than half the distance to its neighbour in a format may not move there at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24}
"""Significant binary digits of the formats that policies are sampled in."""
LEAST_EXPONENT = {"bfloat16": -133, "float16": -24, "float32": -149}
"""Of the smallest distance between two numbers of a format, a power of two."""
ALL_LAYERS = "all"
LEAST_KEPT = 0.5
"""People are warned when less than this share of a training is kept."""


def resolve_format(dtype: str, *, gpu: bool) -> str:
    """Return the format that `dtype` names; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if dtype == "auto":
        return "bfloat16" if gpu else "float32"
    return dtype


def last_place(value: float, number_format: str) -> int:
    """Return the binary exponent of the distance between the numbers of a format around a value."""
    return max(math.frexp(value)[1] - DIGITS[number_format], LEAST_EXPONENT[number_format])


def rounded(value: float, number_format: str) -> float:
    """Return the number of a format that is nearest to a value, of two nearest the even one."""
    exponent = last_place(value, number_format)
    return math.ldexp(round(math.ldexp(value, -exponent)), exponent)


@dataclass(frozen=True, slots=True)
class WeightUpdate:
    """What a training changed in the weights of a layer, and what of it is there in a number format.

    W and W' are the float32 weights before and after, u = W' − W is the update, S(W') is what the checkpoint
    holds, and r = round(S(W')) − round(W) the update as the format shows it.

    `kept` = ⟨r, u⟩ / |u|²: how far the sampled policy went in the direction in which it was trained, as a
    share of the way. To first order that is the share of the effect. Rounding errors that do not depend on u
    cancel in it: a weight that lay anywhere between two numbers of the format keeps its move on average.
    `cosine` = ⟨r, u⟩ / (|r| |u|) shows these errors: it is small where they are larger than the update.
    Both are None where nothing was trained; `cosine` also where nothing is left.
    """

    layer: str  # `all` for the whole policy
    format: str
    weights: int
    norm: float  # |u|
    changed: float  # share of weights with r ≠ 0
    kept: float | None
    cosine: float | None


def weight_update(
    layer: str, number_format: str, weights: int, trained: float, changed: float, along: float, sampled: float
) -> WeightUpdate:
    """Return the figures of sums over weights: u², how many r ≠ 0, r·u and r²."""
    both = math.sqrt(trained * sampled)
    return WeightUpdate(
        layer,
        number_format,
        weights,
        math.sqrt(trained),
        changed / weights,
        along / trained if trained else None,
        along / both if both else None,
    )


@dataclass(frozen=True, slots=True)
class SampledUpdate:
    """The update of a policy in each format, and the format that the policy is sampled in."""

    sampled_as: str | None  # None where a server decides
    updates: Sequence[WeightUpdate]

    @property
    def whole(self) -> list[WeightUpdate]:
        """The rows of all layers together."""
        return [update for update in self.updates if update.layer == ALL_LAYERS]

    def kept(self, number_format: str | None) -> float | None:
        """Return the share of the training that a format keeps; None if it is not known."""
        return next((update.kept for update in self.whole if update.format == number_format), None)

    @property
    def norm(self) -> float | None:
        """The norm of the update in float32."""
        return next((update.norm for update in self.whole), None)

    @property
    def warning(self) -> str | None:
        """What to tell people; None if the sampled policy keeps most of its training."""
        kept = self.kept(self.sampled_as)
        if kept is None or kept >= LEAST_KEPT:
            return None
        return f"sampled in {self.sampled_as} it keeps {kept:.0%} of its training; {self.advice}"

    @property
    def advice(self) -> str:
        """What to change in the recipe so that more is kept."""
        if self.sampled_as == "float32":
            return 'keep all by training.save_dtype = "float32"'
        stochastic = f'training.save_dtype = "{self.sampled_as}" with save_rounding = "stochastic"'
        half = self.kept("float16") or 0.0
        finer = f', by policy.dtype = "float16" ({half:.0%})' if half >= LEAST_KEPT else ""
        return f"keep more by {stochastic}{finer}, or by a larger learning rate"


NO_UPDATE = SampledUpdate(None, ())
