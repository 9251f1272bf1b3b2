"""A policy is a table: what each further sample of a problem is worth."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError

Worth = Literal["cap", "fading", "count"]


@dataclass(frozen=True, slots=True, order=True)
class State:
    """What is known of a problem when a wave is decided."""

    correct: int
    incorrect: int
    drawn: int  # samples; those without a verdict are neither correct nor incorrect
    level: Difficulty | None = None  # its label after the pre-samples; None without one


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the recipe that a policy may read."""

    resampled: frozenset[Difficulty] = frozenset({Difficulty.BOUNDARY})
    worth: Worth = "cap"
    pairs: int = 4  # of `cap`; of `stop`: the wanted samples of each verdict
    ratio: float = 0.9  # of `fading`


Gains = Callable[[State, int, Beliefs, Settings], Sequence[float]]
"""Given a state, the most further samples, the beliefs and the settings: the worth of each further sample.

None may be worth more than the one before, and none less than 0. A problem gets no sample beyond the last.
"""


def _checked(gains: Sequence[float], state: State, most: int) -> tuple[float, ...]:
    """Return a row of a table as a tuple; raise BadInputError if it is none."""
    row = tuple(float(value) for value in gains)
    if len(row) > most:
        raise BadInputError(f"the allocation policy gives {state} {len(row)} gains, and {most} are left")
    before = float("inf")
    for place, value in enumerate(row):
        if not 0 <= value <= before or value == float("inf"):
            raise BadInputError(
                f"the allocation policy gives {state} the gain {value} for further sample {place}: "
                "gains are numbers from 0, none greater than the one before"
            )
        before = value
    return row


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, and whether one problem may get no more than the limit of the recipe."""

    gains: Gains
    limited: bool


def find_policy(name: str) -> Policy:
    """Return a policy: one of ours by name, another as `package.module:function`.

    Raises BadInputError if there is none.
    """
    path, colon, function = name.partition(":")
    try:
        module = importlib.import_module(path if colon else f"hsstar.domain.allocation.policies.{name}")
        gains = getattr(module, function if colon else "gains")
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInputError(f"allocation.policy = {name!r} cannot be loaded: {error}") from None
    if not callable(gains):
        raise BadInputError(f"allocation.policy = {name!r} is no function")
    return Policy(gains, bool(colon) or getattr(module, "LIMITED", True))


def make_table(
    policy: Policy, problems: Mapping[State, int], budget: int, beliefs: Beliefs, settings: Settings
) -> dict[State, tuple[float, ...]]:
    """Return what each further sample of a problem is worth, by state; raise BadInputError if it is no table.

    Where the samples of a problem have no limit the rows are as long as the budget can need.
    """
    if not policy.limited:
        eligible = sum(
            number for state, number in problems.items() if policy.gains(state, 1, beliefs, settings)
        )
        everyone = budget // eligible + 1 if eligible else 0
    table = {}
    for state in problems:
        most = max(0, beliefs.most - state.drawn) if policy.limited else everyone
        table[state] = _checked(policy.gains(state, most, beliefs, settings), state, most)
    return table
