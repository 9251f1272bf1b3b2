"""`[notify]` of a recipe: whom to tell when a run needs a person, or has ended."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from hsstar.domain.lifecycle import Event
from hsstar.recipe.base import Section

_URL = r"^(https?://[^\s@/]+[^\s@]*|\$\{HSSTAR_NOTIFY\w*\})$"
"""Without a user; of variables only those made for this: a recipe must not send others away."""


class NotifySection(Section):
    """A webhook that gets a small JSON object at events of the run; it decides nothing of the result."""

    on: tuple[Event, ...] = ()
    """At which events: `failed`, a job has failed; `stopped`, the run is held; `done`, no iteration is
    left."""
    url: Annotated[str, Field(pattern=_URL)] | None = None
    """Where to: a URL without user and password, or `${HSSTAR_NOTIFY_URL}`, a variable of the workers (or a
    file that `HSSTAR_NOTIFY_URL_FILE` names) which holds one that is secret."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.on) != (self.url is not None):
            raise ValueError("on and url belong together: which events, and where to")
        return self
