"""What the iterations of a run did: labels, budget, pairs, speed, accuracy and reward quality."""

from dataclasses import dataclass, fields

from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import progress


@dataclass(frozen=True, slots=True)
class IterationSummary:
    """A row of the view `iteration_statistics`, as far as it is shown."""

    iteration: int
    problems: int
    inlier: int
    boundary: int
    outlier: int
    budget: int
    drawn: int
    drawn_pre: int
    drawn_re: int
    correct: int
    cut: int
    no_answer: int
    different_texts: float | None  # share of samples with a text that no earlier one of their problem has
    pairs: int
    distinct_pairs: int
    problems_with_pair: int
    rows_trained: int
    optimiser_steps: int
    chosen_logp_change: float | None  # nats, from first to last; None without preference pairs
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
    sampled_as: str | None  # number format of the policy that it trained
    update_kept: float | None  # share of the training that is there in that format
    reward_quality: float | None  # area under the ROC of the minimum step reward; None without any

    @property
    def labelled(self) -> int:
        """Problems with a difficulty level."""
        return self.inlier + self.boundary + self.outlier

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per worker second of sampling; None before any."""
        return float(self.tokens) / float(self.seconds_sampling) if self.seconds_sampling else None


def load_iterations(database: Database, run_name: str) -> list[IterationSummary]:
    """Load the summaries of a run's iterations, in order; raise NotFoundError without the run."""
    columns = [field.name for field in fields(IterationSummary)]
    with database.begin() as connection:
        runs.find_run(connection, run_name)
        rows = progress.iteration_statistics(connection, run_name)
    return [IterationSummary(**{column: row[column] for column in columns}) for row in rows]
