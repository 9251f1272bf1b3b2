"""What a recipe will take: samples, tokens, hours, disk, and the figures that these rest on."""

from collections.abc import Callable
from dataclasses import dataclass

from hsstar.domain import planning
from hsstar.domain.planning import SamplePlan, TokenPlan
from hsstar.engines.parameters import ModelSize
from hsstar.recipe import Recipe
from hsstar.store.measurements import Measurements

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


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take. Tokens are those of responses; hours are those of one worker of each kind."""

    samples: SamplePlan
    tokens: TokenPlan
    figures: dict[str, Figure]
    hours: dict[str, float | None]
    checkpoint_bytes: float | None
    database_bytes: float

    @property
    def known_hours(self) -> float:
        """Of all kinds together, as far as they are known."""
        return sum(value for value in self.hours.values() if value is not None)


def forecast(
    recipe: Recipe,
    iterations: int,
    given: Given,
    measured: Measurements | None,
    policy: ModelSize | None,
    heldout_problems: int | None,
    gpu: bool,
) -> Forecast:
    """What so many iterations of a recipe will take.

    Args:
        recipe: of the run.
        iterations: how many.
        given: the user's figures, which go before measured ones.
        measured: what earlier runs have measured; None without a database.
        policy: its size; None where there is no such model.
        heldout_problems: problems of the held-out dataset; None where it cannot be asked.
        gpu: whether the run has one: it decides the number format `auto`.
    """
    figures = _figures(recipe, given, measured)
    samples = _samples(recipe, iterations, heldout_problems)
    length = figures["tokens per sample"].value or 0.0
    tokens = planning.plan_tokens(
        samples,
        length,
        scored=recipe.reward.used,
        pairs_per_sample=figures["pairs per sample"].value or 0.0,
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
        None if size is None else planning.weight_bytes(size, bytes_each) * iterations * trains,
        planning.database_bytes(samples, length),
    )


def number_bytes(dtype: str, gpu: bool) -> float:
    """Bytes of a number in the format; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    return NUMBER_BYTES[("bfloat16" if gpu else "float32") if dtype == "auto" else dtype]


def _samples(recipe: Recipe, iterations: int, heldout_problems: int | None) -> SamplePlan:
    evaluation = recipe.evaluation
    trains = recipe.training.objective != "none"
    limit = evaluation.problems
    known = [count for count in (limit, heldout_problems) if count is not None]
    return planning.plan_samples(
        recipe.sampling.budget,
        recipe.problems.per_iteration,
        iterations=iterations,
        policies=0 if evaluation.dataset is None else 1 + iterations * trains,
        heldout_problems=min(known, default=None),
        per_heldout=evaluation.samples,
    )


def _figures(recipe: Recipe, given: Given, measured: Measurements | None) -> dict[str, Figure]:
    limit = recipe.sampling.max_new_tokens
    share = _ASSUMED_SHARE_OF_LIMIT
    own = f"measured in earlier runs of {recipe.policy.model}"

    def figure(
        mine: float | None, pick: Callable[[Measurements], float | None], otherwise: Figure, source: str = own
    ) -> Figure:
        if mine is not None:
            return Figure(mine, "given")
        found = None if measured is None else pick(measured)
        return otherwise if found is None else Figure(float(found), source)

    def unknown(option: str) -> Figure:
        return Figure(None, f"not known; give --{option}-tokens-per-second")

    trains = recipe.training.objective != "none"
    return {
        "tokens per sample": figure(
            given.tokens_per_sample,
            lambda found: found.tokens_per_sample,
            Figure(share * limit, f"assumed: {share:.0%} of max_new_tokens; give --tokens-per-sample"),
        ),
        "pairs per sample": Figure(0.0, "training.objective is none")
        if not trains
        else figure(
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
    return None if tokens is None or speed.value is None else planning.hours(tokens, speed.value)
