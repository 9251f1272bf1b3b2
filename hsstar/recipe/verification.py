"""`[verification]` of a recipe: what decides whether a response is correct."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hsstar.domain.benchmarks import dataset_of
from hsstar.recipe.base import Name, Section
from hsstar.verifier.kinds import SETTINGS
from hsstar.verifier.kinds.base import KindSettings

Kind = Literal["math", "exact"]


class KindSection(Section):
    """The kind of verification of one dataset; a key belongs to the kinds that its meaning names first."""

    kind: Kind = "math"
    """`math`: equivalent to the reference as mathematics; `exact`: the same text."""
    ignore_case: bool | None = None
    """`exact`: capital letters count as small ones; default: false."""
    ignore_spaces: bool | None = None
    """`exact`: white space at the ends does not count, and within counts as one space; default: true."""

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

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        known = {field.name: field for field in fields(SETTINGS[self.kind])}
        for key in KindSection.model_fields:
            given = getattr(self, key) is not None
            if key != "kind" and given and key not in known:
                kinds = [name for name, of in SETTINGS.items() if key in {field.name for field in fields(of)}]
                raise ValueError(f"{key} needs kind = {' or '.join(map(repr, kinds))}, got {self.kind!r}")
            if not given and key in known and known[key].default is MISSING:
                raise ValueError(f"kind = {self.kind!r} needs {key}")
        return self

    @model_serializer(mode="wrap")
    def _without_keys_of_other_kinds(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        known = {field.name for field in fields(SETTINGS[self.kind])}
        return {
            key: value
            for key, value in document.items()
            if key in known or key not in KindSection.model_fields or key == "kind"
        }

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
