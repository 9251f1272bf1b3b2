"""Knapsack RL: N samples are worth the chance that they are not all alike, times p(1 − p)²."""

from collections.abc import Sequence

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return V(N+1) − V(N) from N = t on, for V(N) = E[(1 − p^N − (1−p)^N) · p(1−p)²].

    The difference is E[p^(N+1) (1−p)³ + p² (1−p)^(N+2)].
    """
    counts = (state.correct, state.incorrect)
    found: list[float] = []
    for drawn in range(state.drawn, state.drawn + most):
        found.append(beliefs.moment(counts, drawn + 1, 3) + beliefs.moment(counts, 2, drawn + 2))
    return found
