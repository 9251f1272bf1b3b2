"""What a recipe will take: samples, tokens, hours, disk, and the figures that these rest on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hsstar.checkpoints.disk_space import training_bytes
from hsstar.checkpoints.size import ModelSize
from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.plan import arithmetic
from hsstar.plan.arithmetic import SamplePlan, TokenPlan
from hsstar.recipe.evaluation import EvaluationSection
from hsstar.recipe.recipe import Recipe
from hsstar.store.read.throughput import Throughput

_ASSUMED_SHARE_OF_LIMIT = 0.25
_ASSUMED_PAIRS_PER_SAMPLE = 0.15
NUMBER_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, slots=True)
class Given:
    """Figures that the user knows better; None where not."""

    tokens_per_sample: float | None = None
    pairs_per_sample: float | None = None
    sampling_speed: float | None = None
    scoring_speed: float | None = None
    training_speed: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and where it comes from: given, measured or assumed; without a value it is not known."""

    value: float | None
    source: str


_OTHER_OBJECTIVES = {
    "none": Figure(0.0, "training.objective is none"),
    "sft": Figure(None, "training.objective is sft: it takes correct samples, how many is not foreseen"),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take. Tokens are those of responses; hours are those of one worker of each kind.

    Attributes:
        checkpoint_bytes: of all policies that the run makes; None where their size is not known.
        intermediate_bytes: of a training's intermediate checkpoints, which go when it ends; adapters' are not
            counted.
    """

    samples: SamplePlan
    tokens: TokenPlan
    figures: dict[str, Figure]
    hours: dict[str, float | None]
    checkpoint_bytes: float | None
    intermediate_bytes: float
    database_bytes: float

    @property
    def known_hours(self) -> float:
        """Of all kinds together, as far as they are known."""
        return sum(value for value in self.hours.values() if value is not None)


def forecast(
    recipe: Recipe,
    iterations: int,
    given: Given,
    measured: Throughput | None,
    policy: ModelSize | None,
    sizes: Mapping[str, int],
    gpu: bool,
) -> Forecast:
    """What so many iterations of a recipe will take.

    Args:
        recipe: of the run.
        iterations: how many.
        given: the user's figures, which go before measured ones.
        measured: what earlier runs have measured; None without a database.
        policy: its size; None where there is no such model.
        sizes: usable problems of the datasets that are there.
        gpu: whether the run has one: it decides the number format `auto`.
    """
    figures = _figures(recipe, given, measured)
    samples = _samples(recipe, iterations, sizes)
    length = figures["tokens per sample"].value or 0.0
    tokens = arithmetic.plan_tokens(
        samples,
        length,
        scored=recipe.reward.used,
        pairs_per_sample=figures["pairs per sample"].value,
        epochs=recipe.training.epochs,
    )
    trains = recipe.training.objective != "none"
    size = None if policy is None or policy.parameters is None else policy.parameters
    bytes_each = number_bytes(recipe.training.dtype, gpu)
    return Forecast(
        samples,
        tokens,
        figures,
        {
            "sampling": _hours(tokens.sampled, figures["sampling speed"]),
            "evaluation": _hours(tokens.evaluated, figures["sampling speed"]),
            "scoring": _hours(tokens.scored, figures["scoring speed"]),
            "training": _hours(tokens.trained, figures["training speed"]),
        },
        None if size is None else arithmetic.weight_bytes(size, bytes_each) * iterations * trains,
        _intermediate_bytes(recipe, size) if trains else 0,
        arithmetic.database_bytes(samples, length),
    )


def _intermediate_bytes(recipe: Recipe, parameters: int | None) -> int:
    training = recipe.training
    trained = 0 if training.lora_rank or parameters is None else parameters
    return training_bytes(parameters or 0, trained, 0, saves=training.save_every_steps != 0)[1]


def number_bytes(dtype: str, gpu: bool) -> float:
    """Bytes of a number in the format; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    return NUMBER_BYTES[("bfloat16" if gpu else "float32") if dtype == "auto" else dtype]


def _samples(recipe: Recipe, iterations: int, sizes: Mapping[str, int]) -> SamplePlan:
    trains = recipe.training.objective != "none"
    return arithmetic.plan_samples(
        recipe.sampling.budget,
        recipe.problems.per_iteration,
        iterations=iterations,
        policies=1 + iterations * trains if recipe.evaluation.used else 0,
        evaluation_samples=_evaluation_samples(recipe.evaluation, sizes),
    )


def _evaluation_samples(evaluation: EvaluationSection, sizes: Mapping[str, int]) -> int | None:
    """Samples that one policy is measured by; None if the size of a dataset is not known."""
    sets = (
        [(evaluation.problems, sizes.get(evaluation.dataset), evaluation.samples)]
        if evaluation.dataset
        else []
    )
    for each in evaluation.benchmarks:
        published = BENCHMARKS[each.name].problems if each.name in BENCHMARKS else None
        sets.append((each.problems, sizes.get(each.dataset, published), each.samples))
    total = 0
    for limit, size, samples in sets:
        known = [count for count in (limit, size) if count is not None]
        if not known:
            return None
        total += min(known) * samples
    return total


def _figures(recipe: Recipe, given: Given, measured: Throughput | None) -> dict[str, Figure]:
    limit = recipe.sampling.max_new_tokens
    share = _ASSUMED_SHARE_OF_LIMIT
    own = f"measured in earlier runs of {recipe.policy.model}"

    def figure(
        mine: float | None, pick: Callable[[Throughput], float | None], otherwise: Figure, source: str = own
    ) -> Figure:
        if mine is not None:
            return Figure(mine, "given")
        found = None if measured is None else pick(measured)
        return otherwise if found is None else Figure(float(found), source)

    def unknown(option: str) -> Figure:
        return Figure(None, f"not known; give --{option}-tokens-per-second")

    return {
        "tokens per sample": figure(
            given.tokens_per_sample,
            lambda found: found.tokens_per_sample,
            Figure(share * limit, f"assumed: {share:.0%} of max_new_tokens; give --tokens-per-sample"),
        ),
        "pairs per sample": _OTHER_OBJECTIVES.get(recipe.training.objective)
        or figure(
            given.pairs_per_sample,
            lambda found: found.pairs_per_sample,
            Figure(_ASSUMED_PAIRS_PER_SAMPLE, "assumed; give --pairs-per-sample"),
        ),
        "sampling speed": figure(
            given.sampling_speed, lambda found: found.sampling_speed, unknown("sampling")
        ),
        "scoring speed": figure(
            given.scoring_speed,
            lambda found: found.scoring_speed,
            unknown("scoring"),
            f"{own} with {recipe.reward.model}",
        ),
        "training speed": figure(
            given.training_speed, lambda found: found.training_speed, unknown("training")
        ),
    }


def _hours(tokens: float | None, speed: Figure) -> float | None:
    if tokens == 0:
        return 0.0
    return None if tokens is None or speed.value is None else arithmetic.hours(tokens, speed.value)
