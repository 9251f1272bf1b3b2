"""`[evaluation]` of a recipe: the problems that every policy of a run is evaluated on."""

from dataclasses import asdict, fields
from typing import Any, Self

from pydantic import field_validator, model_validator

from hsstar.domain.benchmarks import BENCHMARKS, GREEDY, Decoding, dataset_of
from hsstar.recipe.base import (
    MinP,
    Name,
    Natural,
    Positive,
    RepetitionPenalty,
    Section,
    Temperature,
    TopP,
)


class BenchmarkSection(Section):
    """One benchmark or imported dataset; the published protocol fills missing keys."""

    name: Name
    """A benchmark, or an imported dataset."""
    problems: Positive | None = None
    """How many problems, from the start of the file; default: all."""
    temperature: Temperature
    """Default: the benchmark's protocol; 0 for another dataset."""
    top_p: TopP
    """Default: the protocol; 1 for another dataset."""
    top_k: Natural = 0
    """As in `[sampling]`."""
    min_p: MinP = 0.0
    """As in `[sampling]`."""
    repetition_penalty: RepetitionPenalty = 1.0
    """As in `[sampling]`."""
    samples: Positive
    """Samples per problem. Default: the protocol; 1 for another dataset."""
    max_new_tokens: Positive
    """Default: the protocol; 2048 for another dataset."""

    @model_validator(mode="before")
    @classmethod
    def _by_protocol(cls, value: Any) -> Any:
        """Turn a name into a table, and fill the keys that a table lacks from the protocol."""
        table = {"name": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            return table
        known = BENCHMARKS.get(str(table.get("name")))
        return asdict(known.decoding if known else GREEDY) | table

    @model_validator(mode="after")
    def _different_samples(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same; give a temperature")
        return self

    @property
    def dataset(self) -> str:
        """The dataset of its problems."""
        return dataset_of(self.name)

    @property
    def decoding(self) -> Decoding:
        """The decoding of its samples."""
        return decoding_of(self)

    @property
    def evaluation_key(self) -> str:
        """Problems and decoding in words: two sections with equal keys are the same evaluation."""
        first = f", first {self.problems}" if self.problems else ""
        return f"{self.name}{first}, {self.decoding.shown}"


def decoding_of(section: "BenchmarkSection | EvaluationSection") -> Decoding:
    """Return the decoding that a section says: its keys of the same names."""
    return Decoding(**{field.name: getattr(section, field.name) for field in fields(Decoding)})


class EvaluationSection(Section):
    """The evaluation of every policy; with neither `dataset` nor `benchmarks`, no policy is evaluated."""

    dataset: Name | None = None
    """Imported dataset of held-out problems."""
    problems: Positive | None = None
    """How many of them, the first in the run's seeded order; default: all."""
    temperature: Temperature = 0.0
    """Sampling temperature on `dataset`; 0 is greedy."""
    top_p: TopP = 1.0
    """Nucleus mass on `dataset`."""
    top_k: Natural = 0
    """As in `[sampling]`."""
    min_p: MinP = 0.0
    """As in `[sampling]`."""
    repetition_penalty: RepetitionPenalty = 1.0
    """As in `[sampling]`."""
    samples: Positive = 1
    """Samples per problem of `dataset`; with more than one, the accuracy is avg@k."""
    max_new_tokens: Positive = 2048
    """Length limit of a sample, in tokens."""
    benchmarks: tuple[BenchmarkSection, ...] = ()
    """Measured besides `dataset`: names, which follow their protocol, or tables."""

    @property
    def used(self) -> bool:
        """Whether policies are evaluated."""
        return self.dataset is not None or bool(self.benchmarks)

    @property
    def datasets(self) -> list[str]:
        """The datasets of all these problems."""
        held_out = [] if self.dataset is None else [self.dataset]
        return held_out + [benchmark.dataset for benchmark in self.benchmarks]

    @property
    def decoding(self) -> Decoding:
        """The decoding of the samples of the held-out dataset."""
        return decoding_of(self)

    @field_validator("benchmarks")
    @classmethod
    def _no_duplicates(cls, value: tuple[BenchmarkSection, ...]) -> tuple[BenchmarkSection, ...]:
        keys = [benchmark.evaluation_key for benchmark in value]
        if duplicate := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"{duplicate!r} is listed twice")
        return value
