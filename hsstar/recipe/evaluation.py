"""`[evaluation]` of a recipe: what every policy of a run is measured on."""

from dataclasses import asdict
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from hsstar.domain.benchmarks import BENCHMARKS, GREEDY, Decoding, dataset_of
from hsstar.recipe.base import Name, Positive, Section


class BenchmarkSection(Section):
    """One benchmark, or another imported dataset; by the published protocol where nothing else is said."""

    name: Name
    """A benchmark, or an imported dataset."""
    problems: Positive | None = None
    """How many problems, from the start of the file; default: all."""
    temperature: Annotated[float, Field(ge=0, le=10)]
    """Default: the benchmark's protocol; 0 for another dataset."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Default: the protocol; 1 for another dataset."""
    samples: Positive
    """Samples per problem. Default: the protocol; 1 for another dataset."""
    max_new_tokens: Positive
    """Default: the protocol; 2048 for another dataset."""

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, value: Any) -> Any:
        """A name alone is a table with nothing but a name, and the protocol fills what a table lacks."""
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict):
            return given
        known = BENCHMARKS.get(str(given.get("name")))
        return asdict(known.decoding if known else GREEDY) | given

    @model_validator(mode="after")
    def _different_samples(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same; give a temperature")
        return self

    @property
    def dataset(self) -> str:
        """The dataset where its problems are."""
        return dataset_of(self.name)

    @property
    def decoding(self) -> Decoding:
        """How its samples are drawn."""
        return Decoding(self.temperature, self.top_p, self.samples, self.max_new_tokens)

    @property
    def evaluation_key(self) -> str:
        """Name problems and decoding: two sections with equal keys measure the same."""
        first = f", first {self.problems}" if self.problems else ""
        return f"{self.name}{first}, {self.decoding.shown}"


class EvaluationSection(Section):
    """Problems that every policy of the run is measured on; without dataset and benchmarks none is."""

    dataset: Name | None = None
    """Imported dataset of held-out problems."""
    problems: Positive | None = None
    """How many of them, the first in the run's seeded order; default: all."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Sampling temperature on `dataset`; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus mass on `dataset`."""
    samples: Positive = 1
    """Samples per problem of `dataset`; with more than one, the accuracy is avg@k."""
    max_new_tokens: Positive = 2048
    """Length limit of a sample, in tokens."""
    benchmarks: tuple[BenchmarkSection, ...] = ()
    """Measured besides `dataset`: names, which follow their protocol, or tables."""

    @property
    def used(self) -> bool:
        """Whether policies are measured at all."""
        return self.dataset is not None or bool(self.benchmarks)

    @property
    def datasets(self) -> list[str]:
        """The datasets where all these problems are."""
        held_out = [] if self.dataset is None else [self.dataset]
        return held_out + [benchmark.dataset for benchmark in self.benchmarks]

    @property
    def decoding(self) -> Decoding:
        """How the samples of the held-out dataset are drawn."""
        return Decoding(self.temperature, self.top_p, self.samples, self.max_new_tokens)

    @field_validator("benchmarks")
    @classmethod
    def _each_once(cls, value: tuple[BenchmarkSection, ...]) -> tuple[BenchmarkSection, ...]:
        keys = [each.evaluation_key for each in value]
        if twice := next((each for each in keys if keys.count(each) > 1), None):
            raise ValueError(f"{twice!r} stands there twice")
        return value
