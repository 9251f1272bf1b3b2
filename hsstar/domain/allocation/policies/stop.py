"""Reinforce-Ada: every problem is sampled until it has k right and k wrong samples."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return 1/(1+s) while the problem lacks right or wrong samples."""
    if min(state.correct, state.incorrect) >= settings.pairs:
        return []
    return [1 / (1 + further) for further in range(most)]
