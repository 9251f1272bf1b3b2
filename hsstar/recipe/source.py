"""`[[sources]]` of a recipe: further policies, such as a teacher, that sample beside the trained one."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from hsstar.domain.difficulty import Difficulty
from hsstar.domain.preference import SourceUse
from hsstar.recipe.base import MinP, Natural, Positive, RepetitionPenalty, Temperature, TopP
from hsstar.recipe.policy import PolicySection

_DECODING = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
    "stop_token_ids",
}
_KEY_VARIABLE = "HSSTAR_SOURCE_API_KEY"
_TAKEN = ("policy", "iteration", "heldout")
"""What views call other rounds than those of sources."""


class SourceSection(PolicySection):
    """A policy that is not trained: the keys of `[policy]`, how much it draws, and what becomes of it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
    """How views and pages call it: up to 50 small letters, digits, `_` and `-`; not `policy`, `iteration` or
    `heldout`."""
    samples: Positive
    """Samples of each problem, beside the budget of `[sampling]`."""
    levels: tuple[Difficulty, ...] = ()
    """Draw for problems of these levels alone, once they are labelled; empty: for all of them, with the
    pre-samples."""
    use: SourceUse = SourceUse.CHOSEN
    """Correct samples may be `chosen` in pairs; with `both`, incorrect ones may be rejected too; `record`
    keeps them to be compared."""
    temperature: Temperature | None = None
    """Default: that of `[sampling]`, as for the next five."""
    top_p: TopP | None = None
    """As in `[sampling]`."""
    top_k: Natural | None = None
    """As in `[sampling]`."""
    min_p: MinP | None = None
    """As in `[sampling]`."""
    repetition_penalty: RepetitionPenalty | None = None
    """As in `[sampling]`."""
    max_new_tokens: Positive | None = None
    """Length limit of a sample, in tokens."""
    stop_token_ids: tuple[Natural, ...] = ()
    """As in `[sampling]`, whose own are tokens of the policy and hold for no source."""

    @model_validator(mode="after")
    def _has_a_name_of_its_own(self) -> Self:
        if self.name in _TAKEN:
            raise ValueError(
                f"a source cannot be called {self.name!r}, which has a meaning; choose another name"
            )
        return self

    @model_validator(mode="after")
    def _different_samples(self) -> Self:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same; give a temperature")
        return self

    @property
    def policy(self) -> PolicySection:
        """What samples, as `[policy]` would say it."""
        own = self.model_dump(exclude_unset=True, include=set(PolicySection.model_fields))
        if self.openai is not None and self.openai.key_variable is None:  # nobody sends one's key to another
            own["openai"]["key_variable"] = _KEY_VARIABLE
        return PolicySection(**own)

    @property
    def decoding(self) -> dict[str, Any]:
        """The keys of `[sampling]` in which it differs."""
        return self.model_dump(include=_DECODING, exclude_none=True)
