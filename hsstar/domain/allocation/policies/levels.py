"""HS-STaR: the problems of the re-sampled levels are worth the same, the others nothing."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State

LIMITED = False


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return 1/(1+t+s) for a problem of these levels, so that they share evenly, wave after wave."""
    if state.level not in settings.resampled:
        return []
    return [1 / (1 + state.drawn + further) for further in range(most)]
