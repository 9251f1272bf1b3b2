"""HS-STaR: each sample of a problem of the re-sampled levels is worth the same, the others nothing."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State

LIMITED = False


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return 1 for each further sample of a problem of these levels."""
    return [1.0] * most if state.level in settings.resampled else []
