"""The sampling budget of an iteration, and its allocation to problems (METHOD steps 1 and 4)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.seeds import shuffle_key


@dataclass(frozen=True, slots=True)
class Budget:
    """The sampling budget of an iteration."""

    per_problem: int  # `n`; the iteration may draw `n · |D_t|` samples
    pre_samples: int  # `n_p`, drawn for every problem before difficulty is known

    def __post_init__(self) -> None:
        if not 1 <= self.pre_samples <= self.per_problem:
            raise BadInputError(
                f"the budget needs 1 ≤ n_p ≤ n, got n_p = {self.pre_samples}, n = {self.per_problem}"
            )

    def total(self, problems: int) -> int:
        """Return the samples that an iteration over this many problems may draw."""
        return self.per_problem * problems

    def remaining(self, problems: int) -> int:
        """Return the samples left for re-sampling after the pre-samples of every problem."""
        return (self.per_problem - self.pre_samples) * problems


def allot(
    budget: Budget,
    levels: Mapping[str, Difficulty | None],
    resampled: Collection[Difficulty],
    *,
    seed: int,
    iteration: int,
) -> dict[str, int]:
    """Return the samples of each problem in the whole iteration, pre-samples included.

    The problems of the re-sampled levels share the remaining budget evenly. The remainder, one each, goes to
    the first of them in the run's seeded shuffle. The total equals the budget exactly if a re-sampled level
    holds a problem. A problem without level (bad reference) has None in `levels`, which go by problem key.

    Oracle for store/sql/allot.sql; not called by the product.
    """
    chosen = [key for key, level in levels.items() if level in resampled and level is not None]
    allotments = dict.fromkeys(levels, budget.pre_samples)
    if not chosen:
        return allotments
    share, remainder = divmod(budget.remaining(len(levels)), len(chosen))
    chosen.sort(key=lambda key: shuffle_key(seed, "remainder", iteration, key))
    for place, key in enumerate(chosen):
        allotments[key] += share + (place < remainder)
    return allotments
