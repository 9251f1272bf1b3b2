"""Every problem is worth the same: who has fewest samples gets the next one."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State

LIMITED = False


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return 1/(1+t+s), so that later waves even out what earlier ones could not split."""
    return [1 / (1 + state.drawn + further) for further in range(most)]
