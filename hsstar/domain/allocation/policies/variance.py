"""VIP: each sample is worth the variance that it takes from the estimated gradient of its problem."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return E[p(1−p)] · (1/(t+s−1) − 1/(t+s)); a problem has two samples before."""
    weight = beliefs.moment((state.correct, state.incorrect), 1, 1)
    drawn = max(state.drawn, 2)
    return [weight * (1 / (drawn + further - 1) - 1 / (drawn + further)) for further in range(most)]
