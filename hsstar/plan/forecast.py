"""Forecast what a recipe takes: samples, tokens, hours, disk, and the figures that these rest on."""

from collections.abc import Mapping
from dataclasses import dataclass

from hsstar.checkpoints.disk_space import training_bytes
from hsstar.checkpoints.size import ModelSize, adapter_parameters
from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.domain.rounding import resolve_format
from hsstar.plan import arithmetic
from hsstar.plan.arithmetic import SamplePlan, TokenPlan
from hsstar.recipe.evaluation import EvaluationSection
from hsstar.recipe.recipe import Recipe
from hsstar.store.read.throughput import Throughput

_ASSUMED_SHARE_OF_LIMIT = 0.25
_ASSUMED_PAIRS_PER_SAMPLE = 0.15
NUMBER_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True, slots=True)
class UserFigures:
    """Figures that the user states; None if they are to be measured or assumed."""

    tokens_per_sample: float | None = None
    pairs_per_sample: float | None = None
    sampling_speed: float | None = None
    scoring_speed: float | None = None
    training_speed: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its source: given, measured or assumed; None if it is not known."""

    value: float | None
    source: str


_OTHER_OBJECTIVES = {
    "none": Figure(0.0, "training.objective is none"),
    "kto": Figure(None, "training.objective is kto: it takes judged samples, how many is not foreseen"),
    "sft": Figure(None, "training.objective is sft: it takes correct samples, how many is not foreseen"),
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run takes. Tokens are those of responses; hours are those of one worker of each kind."""

    samples: SamplePlan
    tokens: TokenPlan
    figures: dict[str, Figure]
    hours: dict[str, float | None]  # of sources not known: other policies draw them
    checkpoint_bytes: float | None  # of all policies that the run makes; None if their size is not known
    intermediate_bytes: float  # of a training's checkpoints, deleted at its end; adapters' are not counted
    database_bytes: float

    @property
    def pairs_per_iteration(self) -> float | None:
        """Preference pairs of an iteration; None if not known."""
        share = self.figures["pairs per sample"].value
        return None if share is None else share * self.samples.training / self.samples.iterations

    @property
    def known_hours(self) -> float:
        """Of all kinds together, as far as known."""
        return sum(value for value in self.hours.values() if value is not None)


def make_forecast(
    recipe: Recipe,
    iterations: int,
    stated: UserFigures,  # the user's figures, which precede measured ones
    measured: Throughput | None,  # by earlier runs; None without a database
    policy: ModelSize | None,  # None if there is no such model
    sizes: Mapping[str, int],  # usable problems of the imported datasets, by name
    gpu: bool,  # whether the run has one; decides the number format `auto`
) -> Forecast:
    """Forecast what some iterations of a recipe take."""
    figures = _figures(recipe, stated, measured)
    samples = _samples(recipe, iterations, sizes)
    length = figures["tokens per sample"].value or 0.0
    tokens = arithmetic.plan_tokens(
        samples,
        length,
        scored=recipe.scored,
        pairs_per_sample=figures["pairs per sample"].value,
        epochs=recipe.training.epochs,
    )
    trains = recipe.training.objective != "none"
    size = None if policy is None or policy.parameters is None else policy.parameters
    stored = size if recipe.training.lora_merge else _adapter_size(recipe, policy)
    bytes_each = NUMBER_BYTES[recipe.training.save_dtype]
    return Forecast(
        samples,
        tokens,
        figures,
        {
            "sampling": _hours(tokens.sampled, figures["sampling speed"]),
            "evaluation": _hours(tokens.evaluated, figures["sampling speed"]),
            "scoring": _hours(tokens.scored, figures["scoring speed"]),
            "training": _hours(tokens.trained, figures["training speed"]),
            **({"sources": None} if recipe.sources else {}),
        },
        None if stored is None else arithmetic.weight_bytes(stored, bytes_each) * iterations * trains,
        _intermediate_bytes(recipe, size) if trains else 0,
        arithmetic.database_bytes(samples, length),
    )


def _adapter_size(recipe: Recipe, policy: ModelSize | None) -> int | None:
    if policy is None or policy.folder is None:
        return None
    training = recipe.training
    return adapter_parameters(policy.folder, training.lora_rank, training.lora_target_modules)


def _intermediate_bytes(recipe: Recipe, parameters: int | None) -> int:
    training = recipe.training
    trained = 0 if training.lora_rank or parameters is None else parameters
    return training_bytes(parameters or 0, trained, 0, saves=training.save_every_steps != 0)[1]


def number_bytes(dtype: str, gpu: bool) -> float:
    """Bytes of a number in the format; `auto` as in `resolve_format`."""
    return NUMBER_BYTES[resolve_format(dtype, gpu=gpu)]


def _samples(recipe: Recipe, iterations: int, sizes: Mapping[str, int]) -> SamplePlan:
    trains = recipe.training.objective != "none"
    return arithmetic.plan_samples(
        recipe.sampling.budget,
        recipe.problems.per_iteration,
        iterations=iterations,
        policies=1 + iterations * trains if recipe.evaluation.used else 0,
        evaluation_samples=_evaluation_samples(recipe.evaluation, sizes),
        of_sources=sum(source.samples for source in recipe.sources) * recipe.problems.per_iteration,
    )


def _evaluation_samples(evaluation: EvaluationSection, sizes: Mapping[str, int]) -> int | None:
    sets = (
        [(evaluation.problems, sizes.get(evaluation.dataset), evaluation.samples)]
        if evaluation.dataset
        else []
    )
    for section in evaluation.benchmarks:
        published = BENCHMARKS[section.name].problems if section.name in BENCHMARKS else None
        sets.append((section.problems, sizes.get(section.dataset, published), section.samples))
    total = 0
    for limit, size, samples in sets:
        known = [count for count in (limit, size) if count is not None]
        if not known:
            return None
        total += min(known) * samples
    return total


def _figures(recipe: Recipe, stated: UserFigures, measured: Throughput | None) -> dict[str, Figure]:
    limit = recipe.sampling.max_new_tokens
    share = _ASSUMED_SHARE_OF_LIMIT
    own = f"measured in earlier runs of {recipe.policy.model}"

    def figure(field: str, otherwise: Figure, source: str = own) -> Figure:
        """The field as the user states it, else as measured; both classes name it so."""
        if (value := getattr(stated, field)) is not None:
            return Figure(value, "given")
        if (value := getattr(measured, field, None)) is not None:
            return Figure(float(value), source)
        return otherwise

    def unknown(option: str) -> Figure:
        return Figure(None, f"not known; give --{option}-tokens-per-second")

    models = [reward.model for reward in recipe.scoring if reward.has_model] or ["none"]
    assumed_length = f"assumed: {share:.0%} of max_new_tokens; give --tokens-per-sample"
    assumed_pairs = Figure(_ASSUMED_PAIRS_PER_SAMPLE, "assumed; give --pairs-per-sample")
    return {
        "tokens per sample": figure("tokens_per_sample", Figure(share * limit, assumed_length)),
        "pairs per sample": _OTHER_OBJECTIVES.get(recipe.training.objective)
        or figure("pairs_per_sample", assumed_pairs),
        "sampling speed": figure("sampling_speed", unknown("sampling")),
        "scoring speed": figure("scoring_speed", unknown("scoring"), f"{own} with {', '.join(models)}"),
        "training speed": figure("training_speed", unknown("training")),
    }


def _hours(tokens: float | None, speed: Figure) -> float | None:
    if tokens == 0:
        return 0.0
    return None if tokens is None or speed.value is None else arithmetic.hours(tokens, speed.value)
