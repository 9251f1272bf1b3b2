"""What a run is: one TOML document that says everything which decides its result."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hsstar.domain.budget import Budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds
from hsstar.domain.errors import RecipeError
from hsstar.domain.preference import PairRule
from hsstar.domain.prompts import TEMPLATES

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./: +-]+$")]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    # JSON, which keeps a recipe with its run, knows neither infinity nor NaN
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProblemsSection(_Section):
    """Which problems an iteration takes: a fresh slice of a dataset, in the run's seeded order."""

    dataset: Name
    per_iteration: Positive


class PolicySection(_Section):
    """`M_0`, the engine that samples from it, and the prompt it is given."""

    model: Name
    engine: Literal["transformers"] = "transformers"
    prompt: str = "qwen25-step-cot"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @field_validator("prompt")
    @classmethod
    def _known_template(cls, value: str) -> str:
        if value not in TEMPLATES:
            raise ValueError(f"unknown prompt template; legal values: {', '.join(sorted(TEMPLATES))}")
        return value


class SamplingSection(_Section):
    """The budget and how samples are drawn."""

    n: Positive = 8
    n_p: Positive = 3
    strategy: Literal["hierarchical", "uniform"] = "hierarchical"
    """`uniform` draws all `n` samples of every problem in pre-sampling and re-samples nothing."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_new_tokens: Positive = 2048
    stop: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pre_samples_within_budget(self) -> Self:
        if self.n_p > self.n:
            raise ValueError(
                f"n_p = {self.n_p} is more than n = {self.n}; pre-samples are part of the budget"
            )
        return self

    @property
    def budget(self) -> Budget:
        """The budget as the method reads it: under `uniform` every sample is a pre-sample."""
        return Budget(self.n, self.n if self.strategy == "uniform" else self.n_p)


class RewardSection(_Section):
    """The process reward model; `model = "none"` runs without one."""

    model: Name = "none"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def used(self) -> bool:
        """Whether samples are scored at all."""
        return self.model != "none"


class DifficultySection(_Section):
    """How problems are labelled and which levels are re-sampled and trained on."""

    signal: Signal = Signal.ACCURACY_AND_REWARD
    tau_low: float = 0.15
    tau_high: float = 0.65
    resample: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)
    train: tuple[Difficulty, ...] = (Difficulty.BOUNDARY,)

    @model_validator(mode="after")
    def _ordered_thresholds(self) -> Self:
        if not 0 <= self.tau_low < self.tau_high <= 1:
            raise ValueError(
                f"tau_low = {self.tau_low} and tau_high = {self.tau_high} must satisfy "
                "0 ≤ tau_low < tau_high ≤ 1"
            )
        if not self.train:
            raise ValueError("train needs at least one of inlier, boundary, outlier")
        return self

    @property
    def thresholds(self) -> Thresholds:
        """`τ_l` and `τ_h`."""
        return Thresholds(self.tau_low, self.tau_high)


class PairsSection(_Section):
    """How preference pairs are chosen."""

    rule: PairRule = PairRule.HIGHEST_REWARD
    at_most_per_problem: Positive | None = None


class TrainingSection(_Section):
    """Preference optimisation; `objective = "none"` ends an iteration with its pairs."""

    objective: Literal["dpo", "none"] = "dpo"
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    batch_size: Positive = 256
    micro_batch_size: Positive = 8
    epochs: Annotated[float, Field(gt=0)] = 1.0
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    beta: Annotated[float, Field(gt=0)] = 0.1
    nll_weight: Annotated[float, Field(ge=0)] = 0.0
    maximum_tokens: Positive = 2048
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class EvaluationSection(_Section):
    """Held-out problems that every policy of the run is measured on; without a dataset none is."""

    dataset: Name | None = None
    problems: Positive | None = None
    """How many of them (the first in the run's seeded order); all where it is left out."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    samples: Positive = 1
    max_new_tokens: Positive = 2048


class Recipe(_Section):
    """Everything that decides the result of a run."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.+-]+$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    problems: ProblemsSection
    policy: PolicySection
    sampling: SamplingSection = SamplingSection()
    reward: RewardSection = RewardSection()
    difficulty: DifficultySection = DifficultySection()
    pairs: PairsSection = PairsSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @model_validator(mode="after")
    def _rewards_where_needed(self) -> Self:
        if self.reward.used:
            return self
        if self.difficulty.signal.needs_reward:
            raise ValueError(
                f"difficulty.signal = {self.difficulty.signal.value!r} needs reward.model; "
                "name one, or set difficulty.signal = 'accuracy'"
            )
        if self.pairs.rule is PairRule.HIGHEST_REWARD:
            raise ValueError(
                "pairs.rule = 'highest-reward' needs reward.model; name one, or set pairs.rule = 'random'"
            )
        return self

    def document(self) -> dict[str, Any]:
        """The recipe as plain values, every default written out: what is stored with a run."""
        return self.model_dump(mode="json")


def parse_recipe(document: dict[str, Any], source: str = "recipe") -> Recipe:
    """A recipe from plain values.

    Raises:
        RecipeError: one line that names the first wrong key and its legal values.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_line(error)}") from None


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe from a TOML file; `overrides` replace top-level keys (`name`, `seed`).

    Raises:
        RecipeError: the file is missing, not TOML, or not a recipe.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    return parse_recipe(document | (overrides or {}), str(path))


def _first_line(error: ValidationError) -> str:
    found = error.errors()
    first = found[0]
    key = ".".join(str(part) for part in first["loc"]) or "the recipe as a whole"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; legal keys there: {', '.join(_legal_keys(first['loc']))}{more}"
    if first["type"] == "missing":
        return f"key {key!r} is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = first.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float) else ""
    return f"{key}: {message}{shown}{more}"


def _legal_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return sorted(section.model_fields)
