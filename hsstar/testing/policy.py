"""What every allocation policy promises (`hsstar.domain.allocation.policy.Gains`)."""

import itertools

from hsstar.domain.allocation.belief import FLAT, Beliefs, beta_prior, empirical_prior
from hsstar.domain.allocation.policy import Gains, Policy, Settings, State, make_table
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.testing.promises import BrokenPromiseError, demand

_MOST = 12
_STATES = [
    State(correct, incorrect, correct + incorrect + undecided, level)
    for correct, incorrect, undecided in itertools.product(range(5), range(5), range(2))
    for level in (None, *Difficulty)
    if 0 < correct + incorrect + undecided <= _MOST
]
_PRIORS = (FLAT, beta_prior(0.5, 0.5), empirical_prior({(0, 3): 30, (1, 2): 10, (2, 1): 5, (3, 0): 20}))
_SETTINGS = (Settings(), Settings(frozenset(Difficulty), "fading", 1, 0.5), Settings(worth="count", pairs=9))


def check_policy(gains: Gains) -> None:
    """Ask a policy about many states and beliefs; raise BrokenPromiseError where it breaks a promise.

    Its gains are numbers from 0, none greater than the one before, at most as many as are asked for, and the
    same for the same question, whatever was asked before.
    """
    policy = Policy(gains, limited=True)
    numbers = dict.fromkeys(_STATES, 1)
    for prior, settings in itertools.product(_PRIORS, _SETTINGS):
        beliefs = Beliefs(prior, _MOST)
        table = _table(policy, numbers, beliefs, settings)
        again = _table(policy, dict.fromkeys(reversed(_STATES), 1), beliefs, settings)
        for state, row in table.items():
            demand(again[state] == row, "a policy gives a state the same gains when asked again", state)


def _table(
    policy: Policy, numbers: dict[State, int], beliefs: Beliefs, settings: Settings
) -> dict[State, tuple[float, ...]]:
    try:
        return make_table(policy, numbers, 100, beliefs, settings)
    except BadInputError as error:
        raise BrokenPromiseError(str(error)) from None
