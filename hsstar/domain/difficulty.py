"""Difficulty estimation: inlier, boundary or outlier for a policy (METHOD step 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.errors import BadInputError


class Difficulty(StrEnum):
    """The level of a problem for a policy."""

    INLIER = "inlier"
    BOUNDARY = "boundary"
    OUTLIER = "outlier"


class Signal(StrEnum):
    """The signal that decides difficulty."""

    ACCURACY_AND_REWARD = "accuracy-and-reward"
    ACCURACY = "accuracy"
    REWARD = "reward"

    @property
    def needs_reward(self) -> bool:
        """Whether a process reward model must score the pre-samples."""
        return self is not Signal.ACCURACY


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`τ_l < τ_h`, the bounds of process quality for outliers and inliers."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise BadInputError(
                "thresholds need 0 ≤ tau_low < tau_high ≤ 1, "
                f"got tau_low = {self.low}, tau_high = {self.high}"
            )


@dataclass(frozen=True, slots=True)
class DifficultyEstimate:
    """The accuracy and process quality of one problem's pre-samples."""

    accuracy: float  # `φ_a`, the share of correct pre-samples, in [0, 1]
    process_quality: float | None  # `φ_r`, the mean minimum step reward, in [0, 1]; None without model


def estimate_difficulty(
    correct: Sequence[bool], minimum_rewards: Sequence[float] | None
) -> DifficultyEstimate:
    """Return `φ_a` and `φ_r` from verdicts and minimum step rewards, both of shape (pre-samples,).

    Oracle for store/sql/label.sql; not called by the product.
    """
    if not correct:
        raise BadInputError("a problem without pre-samples has no estimate")
    quality = sum(minimum_rewards) / len(minimum_rewards) if minimum_rewards else None
    return DifficultyEstimate(sum(correct) / len(correct), quality)


def classify(estimate: DifficultyEstimate, signal: Signal, thresholds: Thresholds) -> Difficulty:
    """Return the level of a problem: inlier, outlier, and boundary otherwise.

    Oracle for store/sql/label.sql; `hsstar reverify` says by it what would change.
    """
    quality = estimate.process_quality
    if signal.needs_reward and quality is None:
        raise BadInputError(f"difficulty signal {signal.value!r} needs rewards, and the samples have none")
    accuracy_in, accuracy_out = estimate.accuracy == 1, estimate.accuracy == 0
    reward_in = quality is not None and quality > thresholds.high
    reward_out = quality is not None and quality < thresholds.low
    if signal is Signal.ACCURACY:
        reward_in = reward_out = True
    elif signal is Signal.REWARD:
        accuracy_in = accuracy_out = True
    if accuracy_in and reward_in:
        return Difficulty.INLIER
    if accuracy_out and reward_out:
        return Difficulty.OUTLIER
    return Difficulty.BOUNDARY
