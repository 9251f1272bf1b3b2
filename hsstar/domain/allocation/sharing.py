"""Gives the budget of a wave to the samples that are worth most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hsstar.domain.allocation.policy import State
from hsstar.domain.seeds import shuffle_key


@dataclass(frozen=True, slots=True)
class Share:
    """What each problem of a state gets."""

    samples: int
    one_more: bool  # for the first of them in the shuffle, together with those of other states


@dataclass(frozen=True, slots=True)
class Shares:
    """What the problems of each state get of a budget."""

    by_state: Mapping[State, Share]
    rest: int  # samples for so many of the problems that may get one more


def share_out(problems: Mapping[State, int], table: Mapping[State, Sequence[float]], budget: int) -> Shares:
    """Give `budget` samples to the greatest gains over all problems, of which each state has so many.

    Equal gains go by the number of the sample, then by the run's shuffle. Less than the budget is given away
    only where no problem may have more.
    """
    blocks: dict[tuple[float, int], int] = {}
    for state, row in table.items():
        for further, gain in enumerate(row):
            if gain > 0:
                blocks[-gain, further] = blocks.get((-gain, further), 0) + problems[state]
    left = budget
    split: tuple[float, int] | None = None
    for block in sorted(blocks):
        if blocks[block] > left:
            split = block
            break
        left -= blocks[block]
    found = {}
    for state, row in table.items():
        offers = [(-gain, further) for further, gain in enumerate(row) if gain > 0]
        whole = [offer for offer in offers if split is None or offer < split]
        found[state] = Share(len(whole), split in offers)
    return Shares(found, left if split is not None else 0)


def allot(
    states: Mapping[str, State],
    table: Mapping[State, Sequence[float]],
    budget: int,
    *,
    seed: int,
    iteration: int,
) -> dict[str, int]:
    """Return the samples that each problem gets of the budget of a wave, by problem key.

    The greatest gains over all problems get a sample each; equal ones by the number of the sample, then in
    the run's seeded shuffle. Gains of 0 get none.

    Oracle for store/sql/allot.sql; not called by the product.
    """
    offers = [
        (-gain, further, shuffle_key(seed, "remainder", iteration, key), key)
        for key, state in states.items()
        for further, gain in enumerate(table[state])
        if gain > 0
    ]
    allotments = dict.fromkeys(states, 0)
    for *_, key in sorted(offers)[:budget]:
        allotments[key] += 1
    return allotments
