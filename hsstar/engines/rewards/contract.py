"""What a reward model does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """A problem's statement and one response in steps, from `domain.steps.split_steps`."""

    problem: str
    steps: tuple[str, ...]


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
