"""Samples in proportion to the variance of a verdict, p(1 − p), by Webster's divisors."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return E[p(1−p)] / (2(t+s) + 1)."""
    weight = beliefs.moment((state.correct, state.incorrect), 1, 1)
    return [weight / (2 * (state.drawn + further) + 1) for further in range(most)]
