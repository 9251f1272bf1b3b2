"""What the iterations of a run did: labels, budget, pairs, speed, accuracy and reward quality."""

from dataclasses import dataclass, fields

from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import progress


@dataclass(frozen=True, slots=True)
class IterationSummary:
    """A row of the view `iteration_statistics`, as far as it is shown, and the quality of the rewards."""

    iteration: int
    problems: int
    inlier: int
    boundary: int
    outlier: int
    budget: int
    drawn: int
    drawn_pre: int
    drawn_re: int
    pairs: int
    tokens: int
    seconds: float
    seconds_sampling: float
    seconds_verification: float
    seconds_reward: float
    seconds_training: float
    seconds_evaluation: float
    heldout_accuracy_before: float | None
    heldout_error_before: float | None
    heldout_accuracy_after: float | None
    heldout_error_after: float | None
    reward_quality: float | None  # area under the ROC of the minimum step reward; None without any

    @property
    def labelled(self) -> int:
        """Problems with a difficulty level."""
        return self.inlier + self.boundary + self.outlier

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per worker second of sampling; None before any."""
        return float(self.tokens) / float(self.seconds_sampling) if self.seconds_sampling else None


_COLUMNS = [field.name for field in fields(IterationSummary) if field.name != "reward_quality"]


def load_iterations(database: Database, run_name: str) -> list[IterationSummary]:
    """Load the summaries of a run's iterations, in order; raise NotFoundError without the run."""
    with database.begin() as connection:
        quality = progress.reward_quality(connection, runs.find_run(connection, run_name).id)
        rows = progress.iteration_statistics(connection, run_name)
    return [
        IterationSummary(
            **{column: row[column] for column in _COLUMNS}, reward_quality=quality.get(row["iteration"])
        )
        for row in rows
    ]
