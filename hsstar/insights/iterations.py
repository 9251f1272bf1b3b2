"""What the iterations of a run did, and what is wrong with them in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from operator import attrgetter
from typing import Any

from hsstar.domain.run_quality import find_cuts, find_faults
from hsstar.insights.progress import evaluation_name
from hsstar.store import rounds, runs
from hsstar.store.database import Database
from hsstar.store.read import progress
from hsstar.store.read.progress import RoundProgress
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class IterationSummary:
    """A row of the view `iteration_statistics`, as far as it is shown."""

    iteration: int
    state: str
    model: str | None
    output_model: str | None  # the same where nothing was trained
    context: int | None  # tokens that the sampled policy attends to at most
    problems: int
    inlier: int
    boundary: int
    outlier: int
    budget: int
    drawn: int
    drawn_pre: int
    drawn_re: int
    verified: int
    correct: int
    cut: int
    cut_by_context: int
    no_answer: int
    correct_share: float | None  # of verified samples
    cut_share: float | None  # of samples
    no_answer_share: float | None  # of verified samples
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
    faults: tuple[str, ...] = ()  # what is wrong, in words

    @property
    def labelled(self) -> int:
        """Problems with a difficulty level."""
        return self.inlier + self.boundary + self.outlier

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per worker second of sampling; None before any."""
        return float(self.tokens) / float(self.seconds_sampling) if self.seconds_sampling else None


def load_iterations(database: Database, run_name: str) -> list[IterationSummary]:
    """Load the summaries of a run's iterations, in order, with those that a fork shares.

    Raise NotFoundError without the run.
    """
    with database.begin() as connection:
        shared = rounds.list_shared_iterations(connection, runs.find_run(connection, run_name).id)
        owners = [runs.get_run(connection, key) for key in dict.fromkeys(of.round.run_id for of in shared)]
        of_owner = {run.id: {of.round.number for of in shared if of.round.run_id == run.id} for run in owners}
        summaries = [
            _summary(run, row)
            for run in owners
            for row in progress.iteration_statistics(connection, run.name)
            if row["iteration"] in of_owner[run.id]
        ]
    return sorted(summaries, key=attrgetter("iteration"))


def _summary(run: Run, row: Mapping[str, Any]) -> IterationSummary:
    columns = [field.name for field in fields(IterationSummary) if field.name != "faults"]
    summary = IterationSummary(**{column: _plain(row[column]) for column in columns})
    return replace(summary, faults=tuple(_faults(run, summary, summary.iteration)))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _faults(run: Run, figures: IterationSummary | RoundProgress, number: int) -> list[str]:
    return find_faults(figures, number, run.objective, run.context(figures.context))


def fault_lines(run: Run, rounds: Sequence[RoundProgress]) -> list[str]:
    """Return what is wrong with the iterations of a run, and what cuts its evaluations; a line each."""
    lines = []
    for row in rounds:
        if row.kind == "iteration":
            lines += [f"iteration {row.number}: {fault}" for fault in _faults(run, row, row.number)]
        elif row.kind == "evaluation":
            cuts = find_cuts(row, run.context(row.context))
            lines += [f"M_{row.number} {evaluation_name(row)}: {cut}" for cut in cuts]
    return lines
