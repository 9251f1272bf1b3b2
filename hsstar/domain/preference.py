"""Preference pairs from the samples of one problem (METHOD step 6)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.seeds import shuffle_key
from hsstar.domain.verdict import Verdict


class PairRule(StrEnum):
    """Which samples of each side are kept before they are matched."""

    HIGHEST_REWARD = "highest-reward"
    """Highest `S(r)` first on both sides: good solutions against hard negatives (the paper's rule)."""
    RANDOM = "random"
    """A seeded choice on both sides: needs no process reward model."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verified sample that may enter a pair."""

    slot: int
    verdict: Verdict | None
    minimum_reward: float | None


def select_pairs(
    candidates: Iterable[Candidate],
    rule: PairRule,
    *,
    seed: int,
    iteration: int,
    problem_key: str,
    at_most: int | None = None,
) -> list[tuple[int, int]]:
    """The (chosen slot, rejected slot) pairs of one problem.

    `K = min(#correct, #incorrect)`, or `at_most` if that is less, samples are kept on each side,
    shuffled with the run's seed and matched one to one. Samples without a verdict enter no pair.
    """

    def place(purpose: str, candidate: Candidate) -> bytes:
        return shuffle_key(seed, purpose, iteration, problem_key, candidate.slot)

    def keep_order(candidate: Candidate) -> tuple[float, bytes, int]:
        if rule is PairRule.RANDOM:
            return 0.0, place("keep", candidate), candidate.slot
        return -(candidate.minimum_reward or 0.0), b"", candidate.slot

    pool = list(candidates)
    sides = [
        sorted((c for c in pool if c.verdict is verdict), key=keep_order)
        for verdict in (Verdict.CORRECT, Verdict.INCORRECT)
    ]
    kept = min(len(side) for side in sides)
    if at_most is not None:
        kept = min(kept, at_most)
    chosen, rejected = (sorted(side[:kept], key=lambda c: place("match", c)) for side in sides)
    return [(good.slot, bad.slot) for good, bad in zip(chosen, rejected, strict=True)]
