"""How long the responses of policies are, and whether training changes that."""

from collections.abc import Iterable
from typing import Protocol

from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT
from hsstar.store.read import progress
from hsstar.store.read.progress import PolicyLengths, RoundProgress

DRIFT = 0.25
"""A change of lengths by a larger share is a warning."""
FEWEST_RESPONSES = 50
"""A mean of fewer says nothing."""


def load_lengths(database: Database, run_name: str) -> list[PolicyLengths]:
    """Load the lengths of every policy of a run, M_0 first; raise NotFoundError without the run."""
    with database.begin() as connection:
        runs.find_run(connection, run_name)
        return progress.policy_lengths(connection, run_name)


def drift_warnings(rounds: Iterable[RoundProgress]) -> list[str]:
    """Warn if the newest policy answers at another length than M_0 does.

    They are compared on the held-out problems, which are the same for both, else on what they sampled.
    """
    measured = [row for row in rounds if row.mean_tokens and row.drawn >= FEWEST_RESPONSES]
    held_out = [row for row in measured if row.kind == "evaluation" and row.evaluation_key == HELD_OUT]
    compared = held_out or [row for row in measured if row.kind == "iteration"]
    if not compared:
        return []
    first, last = (choose(compared, key=lambda row: row.number) for choose in (min, max))
    before, after = first.mean_tokens or 0.0, last.mean_tokens or 0.0
    if abs(after / before - 1) <= DRIFT:
        return []
    return [
        f"responses of M_{last.number} have {after:.0f} tokens, of M_{first.number} {before:.0f} "
        f"({after / before - 1:+.0%}): training changes their length; see hsstar report RUN --lengths, "
        "pairs.length and training.nll_weight"
    ]


class PairLengths(Protocol):
    """How long the two sides of the pairs of an iteration are, in tokens; None without pairs."""

    @property
    def policy(self) -> int:
        """The iteration, which is t of the policy M_t that drew them."""

    @property
    def chosen(self) -> float | None:
        """Mean of the chosen responses."""

    @property
    def rejected(self) -> float | None:
        """Mean of the rejected responses."""


def pair_warnings(policies: Iterable[PairLengths]) -> list[str]:
    """Warn of iterations whose chosen responses differ in length from the rejected ones."""
    return [
        f"iteration {row.policy}: chosen responses have {row.chosen:.0f} tokens, rejected ones "
        f"{row.rejected:.0f} ({row.chosen / row.rejected - 1:+.0%}), so pairs teach a length; "
        "pairs.length = 'match' takes rejected ones of like length"
        for row in policies
        if row.chosen and row.rejected and abs(row.chosen / row.rejected - 1) > DRIFT
    ]
