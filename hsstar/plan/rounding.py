"""Foresee how much of a training rounding leaves, from learning rate, steps and the policy's own weights."""

import math
import random
from collections.abc import Sequence

from hsstar.checkpoints.size import ModelSize
from hsstar.checkpoints.tensors import sample_weights
from hsstar.domain.findings import Finding, Level
from hsstar.domain.rounding import (
    ALL_LAYERS,
    DIGITS,
    SampledUpdate,
    WeightUpdate,
    last_place,
    rounded,
    weight_update,
)
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.training import TrainingSection

_NAME = "rounding"
_WEIGHTS = 1 << 13


def check_rounding(recipe: Recipe, policy: ModelSize | None, pairs: float | None, *, gpu: bool) -> Finding:
    """Foresee what the sampled policy keeps of an iteration's training on `pairs` pairs (None: not known)."""
    training, sampled_as = recipe.training, recipe.policy.sampled_as(gpu=gpu)
    rows = training.rows or pairs
    if sampled_as is None:
        return Finding(Level.UNCHECKED, _NAME, "the server decides the number format of sampling")
    if training.lora_rank:
        return Finding(Level.UNCHECKED, _NAME, "the updates of adapters are not foreseen; they are measured")
    if rows is None:
        return Finding(Level.UNCHECKED, _NAME, "the number of optimiser steps is not known")
    weights = [] if policy is None or policy.folder is None else sample_weights(policy.folder, _WEIGHTS)
    if not weights:
        return Finding(
            Level.UNCHECKED, _NAME, "the policy's weights are not here, or in a format that is not read"
        )
    steps = max(1, math.ceil(rows * training.epochs / training.batch_size))
    path = path_lengths(training.scheduler, int(steps * training.warmup_ratio), steps)
    least, expected, most = (
        SampledUpdate(sampled_as, foresee_update(weights, training.learning_rate * length, training))
        for length in (path[0], math.sqrt(path[0] * path[1]), path[1])
    )
    shares = [min(1.0, max(0.0, case.kept(sampled_as) or 0.0)) for case in (least, expected, most)]
    text = (
        f"{sampled_as} keeps about {shares[1]:.0%} of a training ({shares[0]:.0%} if its steps go at random, "
        f"{shares[2]:.0%} if all go one way): {steps} steps at learning rate {training.learning_rate:g}"
    )
    if expected.warning is None:
        return Finding(Level.OK, _NAME, text)
    return Finding(Level.WARN, _NAME, f"{text}; {expected.advice}")


def path_lengths(scheduler: str, warm_up: int, steps: int) -> tuple[float, float]:
    """Return how far Adam moves a weight, in peak learning rates: steps in random directions, or all in one.

    Adam divides a gradient by its size, so a step is about one learning rate long. Random steps add up by
    squares, equal ones as they are; small trainings lie between.
    """
    rates = [_rate(scheduler, warm_up, steps, step) for step in range(steps)]
    return math.sqrt(sum(rate * rate for rate in rates)), sum(rates)


def _rate(scheduler: str, warm_up: int, steps: int, step: int) -> float:
    if step < warm_up and scheduler != "constant":
        return step / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return {"cosine": 0.5 + 0.5 * math.cos(math.pi * done), "linear": 1 - done}.get(scheduler, 1.0)


def foresee_update(
    weights: Sequence[float], distance: float, training: TrainingSection
) -> list[WeightUpdate]:
    """Round weights before and after random moves, normally distributed with this standard deviation."""
    chance = random.Random(0)  # noqa: S311  # a repeatable forecast, no secret
    stochastic = training.save_rounding == "stochastic"
    sums = {name: [0.0] * 4 for name in DIGITS}
    for before in weights:
        after = before + chance.gauss(0.0, distance)
        saved = _saved(after, training.save_dtype, chance.random() if stochastic else None)
        for name, total in sums.items():
            update, shown = after - before, rounded(saved, name) - rounded(before, name)
            for place, value in enumerate(
                (update * update, float(shown != 0), shown * update, shown * shown)
            ):
                total[place] += value
    return [weight_update(ALL_LAYERS, name, len(weights), *total) for name, total in sums.items()]


def _saved(weight: float, number_format: str, chance: float | None) -> float:
    """The weight as the checkpoint holds it; with a chance in [0, 1) one of the two neighbours."""
    if chance is None:
        return rounded(weight, number_format)
    exponent = last_place(weight, number_format)
    return math.ldexp(math.floor(math.ldexp(weight, -exponent) + chance), exponent)
