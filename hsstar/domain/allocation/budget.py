"""How the sampling budget of an iteration is spread over its problems (METHOD steps 1 and 4)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.seeds import shuffle_key


@dataclass(frozen=True, slots=True)
class Budget:
    """The sampling budget of an iteration.

    Attributes:
        per_problem: `n`; the iteration may draw `n · |D_t|` samples.
        pre_samples: `n_p`, drawn for every problem before difficulty is known.
    """

    per_problem: int
    pre_samples: int

    def __post_init__(self) -> None:
        if not 1 <= self.pre_samples <= self.per_problem:
            raise BadInputError(
                f"the budget needs 1 ≤ n_p ≤ n, got n_p = {self.pre_samples}, n = {self.per_problem}"
            )

    def total(self, problems: int) -> int:
        """Samples that an iteration over this many problems may draw."""
        return self.per_problem * problems

    def remaining(self, problems: int) -> int:
        """Samples left for re-sampling once every problem has its pre-samples."""
        return (self.per_problem - self.pre_samples) * problems


def allot(
    budget: Budget,
    levels: Mapping[str, Difficulty | None],
    resampled: Collection[Difficulty],
    *,
    seed: int,
    iteration: int,
) -> dict[str, int]:
    """The number of samples each problem gets in the whole iteration, pre-samples included.

    The remaining budget is spread evenly over the problems of the re-sampled levels; the remainder,
    one each, goes to those that come first in the run's seeded shuffle. The total equals the
    budget exactly whenever a re-sampled level holds a problem.

    Args:
        budget: `n` and `n_p`.
        levels: problem key to level; None for a problem that has no level (bad reference).
        resampled: the levels that get the remaining budget.
        seed: the run's seed.
        iteration: the iteration's number.
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
