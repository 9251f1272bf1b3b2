"""Many runs at once, as a study reads them: their progress, and the metrics of their iterations."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class RunState:
    """The progress of a run."""

    run: str
    iterations: int  # enqueued
    done: int  # of these
    live_jobs: int  # queued or running
    failed_jobs: int  # wait for `hsstar jobs retry`
    held: str | None = None  # why no work of the run is planned

    @property
    def under_way(self) -> bool:
        """Whether an enqueued iteration is not done."""
        return self.done < self.iterations

    @property
    def stuck(self) -> bool:
        """Whether the run is held or has failed jobs, and no job is live."""
        waits = self.held is not None or self.failed_jobs > 0
        return self.under_way and waits and self.live_jobs == 0


@dataclass(frozen=True, slots=True)
class IterationMetrics:
    """The metrics of one iteration of a run."""

    run: str
    iteration: int
    problems: int
    inlier: int
    boundary: int
    outlier: int
    budget: int  # samples
    drawn: int
    correct: int  # samples
    pairs: int
    distinct_pairs: int
    problems_with_pair: int
    rows_trained: int  # seen by the optimiser, repetitions included
    optimiser_steps: int
    tokens: int
    accuracy_before: float  # of the sampled policy
    error_before: float  # standard error over the held-out problems
    accuracy_after: float  # of the trained policy
    error_after: float
    seconds: float  # worker seconds of all its jobs without its evaluation
    different_texts: float | None  # share of samples with a text that no earlier one of their problem has
    reward_auc: float | None  # how well minimum rewards tell right samples from wrong ones; None without


def run_states(connection: Connection, names: Sequence[str]) -> dict[str, RunState]:
    """Return the states of the named runs that exist."""
    states = rows_of(execute_file(connection, "run_states", {"names": list(names)}), RunState)
    return {state.run: state for state in states}


def iteration_metrics(connection: Connection, names: Sequence[str]) -> list[IterationMetrics]:
    """Return the metrics of the finished iterations of the named runs, by run and number."""
    rows = connection.execute(
        text("""
            SELECT
                run, iteration, problems, inlier, boundary, outlier, budget, drawn, correct,
                pairs, distinct_pairs, problems_with_pair, rows_trained, optimiser_steps,
                CAST(tokens AS bigint) AS tokens,
                heldout_accuracy_before AS accuracy_before, heldout_error_before AS error_before,
                heldout_accuracy_after AS accuracy_after, heldout_error_after AS error_after,
                CAST(seconds_sampling + seconds_verification + seconds_reward + seconds_training
                    AS double precision) AS seconds,
                different_texts, reward_quality AS reward_auc
            FROM iteration_statistics
            WHERE run = ANY (CAST(:names AS text[])) AND state = 'done'
            ORDER BY run, iteration
        """),
        {"names": list(names)},
    )
    return rows_of(rows, IterationMetrics)
