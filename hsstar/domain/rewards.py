"""How the rewards of steps become the reward of a response, and several rewards its two combined ones.

Oracle of `reward_of` and `store/sql/combine_rewards.sql`; `hsstar rescore` calls it to say what would change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod


class Aggregation(StrEnum):
    """How the rewards of steps become one reward."""

    MIN = "min"
    MEAN = "mean"
    LAST = "last"
    PRODUCT = "product"


class RewardUse(StrEnum):
    """What a reward decides: the difficulty of problems, the rank of samples in pairs, both, or nothing."""

    DIFFICULTY = "difficulty"
    PAIRS = "pairs"
    BOTH = "both"
    RECORD = "record"

    @property
    def labels(self) -> bool:
        """Whether it counts for the difficulty."""
        return self in (RewardUse.DIFFICULTY, RewardUse.BOTH)

    @property
    def ranks(self) -> bool:
        """Whether it counts for pairs."""
        return self in (RewardUse.PAIRS, RewardUse.BOTH)


@dataclass(frozen=True, slots=True)
class RewardRule:
    """What becomes of a reward of a sample."""

    use: RewardUse
    weight: float
    aggregation: Aggregation


@dataclass(frozen=True, slots=True)
class CombinedReward:
    """The rewards of a sample together: for the difficulty, and for pairs."""

    difficulty: float
    pairs: float


_TINY = 1e-150
"""A reward below it counts as 0: Postgres refuses products that are too small for a number."""


def aggregate(step_rewards: Sequence[float], aggregation: Aggregation = Aggregation.MIN) -> float:
    """Return the reward of a response, `S(r)`; 0 for a response without a step."""
    if not step_rewards:
        return 0.0
    match aggregation:
        case Aggregation.MIN:
            reward = min(step_rewards)
        case Aggregation.MEAN:
            reward = sum(step_rewards) / len(step_rewards)
        case Aggregation.LAST:
            reward = step_rewards[-1]
        case Aggregation.PRODUCT:
            reward = prod(step_rewards) if min(step_rewards) >= _TINY else 0.0
    return reward if reward >= _TINY else 0.0


def combine(step_rewards: Mapping[str, Sequence[float]], rules: Mapping[str, RewardRule]) -> CombinedReward:
    """Return the combined rewards of a sample that has all its rewards, by their names.

    A combined reward is the mean of its rewards by weight. Where no reward is used for the difficulty, the
    one for pairs takes its place, where none is used at all, that of all; and without one for pairs that of
    the difficulty.
    """

    def mean(names: Sequence[str]) -> float | None:
        total = sum(rules[name].weight for name in names)
        weighted = (
            rules[name].weight * aggregate(step_rewards[name], rules[name].aggregation) for name in names
        )
        return sum(weighted) / total if names else None

    labels = mean([name for name, rule in rules.items() if rule.use.labels])
    ranks = mean([name for name, rule in rules.items() if rule.use.ranks])
    everything = mean([*rules])
    difficulty = next(value for value in (labels, ranks, everything, 0.0) if value is not None)
    return CombinedReward(difficulty, difficulty if ranks is None else ranks)
