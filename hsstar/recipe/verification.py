"""`[verification]` of a recipe: what decides whether a response is correct."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from hsstar.domain.benchmarks import dataset_of
from hsstar.domain.verdict import Kind
from hsstar.domain.verification import SETTINGS, KindSettings, Signature, file_of
from hsstar.recipe.base import Name, Positive, Section

MOST_CHARACTERS = 200_000
"""Of a file with a function, and of a rubric."""

_NotNegative = Annotated[float, Field(ge=0)]


class KindSection(Section):
    """The kind of verification of one dataset; the meaning of a key names the kinds that have it."""

    kind: Kind = "math"
    """`math`: equivalent to the reference as mathematics. `choice`: names the same option of the statement.
    `exact`: the same text. `numeric`: a number near the reference. `regex`: found or matched by a pattern.
    `json`: the same data. `gym`: reasoning-gym's own score. `python`: a function of your own.
    `code`: a program that passes the tests in the reference. `judge`: a language model decides."""
    extract: str | None = None
    """`choice`, `exact`, `numeric`, `json`: a regular expression whose last match, of it the first group, is
    the answer; default: the final answer of the response."""
    ignore_case: bool | None = None
    """`exact`, `regex`: capital letters count as small ones; default: false."""
    ignore_spaces: bool | None = None
    """`exact`: white space at the ends does not count, and within counts as one space; default: true."""
    relative_tolerance: _NotNegative | None = None
    """`numeric`: how far off a number may be, as a share of the reference; default: 1e-6."""
    absolute_tolerance: _NotNegative | None = None
    """`numeric`: how far off it may be; default: 0. Within either tolerance is near enough."""
    pattern: str | None = None
    """`regex`: its last match in the response, of it the first group, has to be the reference; default: the
    reference is the pattern, which has to match all of the final answer."""
    keys: tuple[str, ...] | None = None
    """`json`: the keys of an object that count, such as `total` or `address.city`; default: all."""
    function: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    """`python`: `FILE.py:NAME` with a path from the recipe's folder, `MODULE:NAME`, or the name of an entry
    point of the group `hsstar.verifiers`."""
    source: Annotated[str, Field(max_length=MOST_CHARACTERS)] | None = None
    """`python`: the text of the file, which the run stores here for its workers."""
    signature: Signature | None = None
    """`python`: how the function is called; default: `auto`, as the names of its parameters say."""
    data_source: str | None = None
    """`python`: what a function of verl gets as `data_source`; default: empty."""
    threshold: float | None = None
    """`python`, `gym`: the number from which a response is correct; default: none, and 1 for `gym`."""
    deadline_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """`python`, `gym`, `code`: processor time for one response, for `code` of one test; default: 10, and 6
    for `code`. A function has ten times as long by the clock."""
    memory_limit_mb: Annotated[int, Field(ge=256)] | None = None
    """`python`, `gym`, `code`: address space for one response, in MiB; default: 4096, 2048 for `gym`, and 512
    for `code`."""
    base_url: str | None = None
    """`judge`: an OpenAI-compatible server with chat completions, such as `http://localhost:8000/v1`."""
    model: str | None = None
    """`judge`: the server's name of the model."""
    rubric: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)] | None = None
    """`judge`: what is correct, in words, or a file that ends in `.txt` or `.md`; default: a rubric that
    compares with the reference."""
    temperature: _NotNegative | None = None
    """`judge`: default: 0."""
    max_tokens: Positive | None = None
    """`judge`: the most tokens of its answer; default: 1024."""
    concurrency: Positive | None = None
    """`judge`: requests at a time; default: 8."""
    timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """`judge`: the longest silence about one request; default: 120."""
    attempts: Positive | None = None
    """`judge`: how often a request is sent until it has an answer; default: 6."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_kind(cls, value: object) -> object:
        """Fill the defaults of the kind, so that a run keeps them."""
        if not isinstance(value, Mapping) or (kind := value.get("kind", "math")) not in SETTINGS:
            return value
        defaults = {
            field.name: field.default
            for field in fields(SETTINGS[kind])
            if field.default is not MISSING and field.default is not None
        }
        return defaults | {key: given for key, given in value.items() if given is not None}

    @field_validator("extract", "pattern")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        known = {field.name: field for field in fields(SETTINGS[self.kind])}
        for key in KindSection.model_fields:
            given = getattr(self, key) is not None
            if key != "kind" and given and key not in known:
                raise ValueError(f"{key} needs kind = {' or '.join(_kinds_with(key))}, got {self.kind!r}")
            if not given and key in known and known[key].default is MISSING:
                raise ValueError(f"kind = {self.kind!r} needs {key}")
        if self.function is not None and (file_of(self.function) is None) != (self.source is None):
            missing = "is of a file, and its text (source) is missing"
            wrong = missing if self.source is None else "is of no file, and source is the text of one"
            raise ValueError(f"function = {self.function!r} {wrong}")
        return self

    @model_serializer(mode="wrap")
    def _without_keys_of_other_kinds(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        other = KindSection.model_fields.keys() - {field.name for field in fields(SETTINGS[self.kind])}
        return {key: value for key, value in document.items() if key == "kind" or key not in other}

    @property
    def settings(self) -> KindSettings:
        """The section as the verifier has it."""
        kind = SETTINGS[self.kind]
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


class VerificationSection(KindSection):
    """What decides whether a response is correct; a table in `datasets` takes the place of the keys here."""

    datasets: dict[Name, KindSection] = Field(default_factory=dict)
    """By dataset or benchmark: its problems are of another kind, as in `[verification.datasets.NAME]`."""

    def of_dataset(self, dataset: str | None) -> KindSettings:
        """Return how the responses to a dataset's problems are verified."""
        for name, section in self.datasets.items():
            if dataset is not None and dataset in (name, dataset_of(name)):
                return section.settings
        return self.settings

    @property
    def all_settings(self) -> list[KindSettings]:
        """All that responses are verified by, each once."""
        return list(dict.fromkeys([self.settings, *(section.settings for section in self.datasets.values())]))


def _kinds_with(key: str) -> list[str]:
    return [repr(kind) for kind, of in SETTINGS.items() if key in {field.name for field in fields(of)}]
