"""What a reward model does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hsstar.domain.errors import EngineError


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """A problem's statement and one response in steps; beside it what functions and rules read."""

    problem: str
    steps: tuple[str, ...]
    response: str = ""
    reference: str = ""
    tokens: int | None = None  # None: not counted, as of imported responses


class RequestError(EngineError):
    """One request of several cannot be scored."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place

    def of(self, subject: str) -> "RequestError":
        """Return the error with the name of what it is about."""
        return RequestError(self.place, f"{subject}: {self}")


@dataclass(frozen=True, slots=True)
class StepRewards:
    """One reward in [0, 1] per scored step; `truncated` if the context did not hold the last steps."""

    rewards: tuple[float, ...]
    truncated: bool = False


class ProcessRewardModel(Protocol):
    """Scores every step of a response. A score never depends on its batch neighbours."""

    name: str

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Return one result per request, in order. A request without steps gets no rewards."""
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...
