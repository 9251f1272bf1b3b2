"""What pictures of a run are drawn from: its flow, its budget, its distributions, its trainings, its jobs."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of

BUCKETS = 20
"""Of a histogram."""


@dataclass(frozen=True, slots=True)
class LevelFlow:
    """The problems of an iteration at one level, and what became of them."""

    level: str  # `unlabelled` before its label
    problems: int
    re_samples: int  # allotted beyond pre-samples
    pairs: int
    problems_with_pair: int


def flow(connection: Connection, run_id: int, iteration: int) -> list[LevelFlow]:
    """Return the levels of an iteration that have problems."""
    return rows_of(execute_file(connection, "flow", {"run_id": run_id, "iteration": iteration}), LevelFlow)


@dataclass(frozen=True, slots=True)
class BucketCount:
    """How much falls into a bucket of a histogram."""

    figure: str  # `accuracy`, `process_quality`, `reward`, `tokens` or `pairs`
    series: str  # a level, a verdict, or `pairs`
    bucket: int  # from 0
    upper: float  # where the last bucket ends
    number: int


def problem_distributions(connection: Connection, run_id: int, iteration: int | None) -> list[BucketCount]:
    """Return the histograms of the problems of an iteration, or of all iterations of a run."""
    values = {"run_id": run_id, "iteration": iteration, "buckets": BUCKETS}
    return rows_of(execute_file(connection, "problem_distributions", values), BucketCount)


def sample_distributions(connection: Connection, run_id: int, iteration: int | None) -> list[BucketCount]:
    """Return the histograms of the samples of an iteration, or of all iterations of a run; reads them all."""
    values = {"run_id": run_id, "iteration": iteration, "buckets": BUCKETS}
    return rows_of(execute_file(connection, "sample_distributions", values), BucketCount)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Samples that an iteration drew for the same reason; of those in pairs also the tokens of each side."""

    wave: int | None  # None: pre-samples
    samples: int
    correct: int
    in_a_pair: int
    gain: float | None  # mean of what the policy's table promised of one
    chosen: int
    tokens_chosen: int
    rejected: int
    tokens_rejected: int


def ledger(connection: Connection, run_id: int, iteration: int) -> list[LedgerEntry]:
    """Return what the budget of an iteration went to: pre-samples first, then the waves."""
    return rows_of(
        execute_file(connection, "ledger", {"run_id": run_id, "iteration": iteration}), LedgerEntry
    )


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """An optimiser step; what an objective does not have is None."""

    iteration: int
    step: int
    loss: float | None
    reward_margin: float | None
    reward_accuracy: float | None
    grad_norm: float | None
    tokens_per_second: float | None


def training_steps(connection: Connection, run_id: int) -> list[TrainingStep]:
    """Return the optimiser steps of a run, with those of iterations that a fork shares, in order."""
    rows = connection.execute(
        text("""
            SELECT iteration, step, loss, reward_margin, reward_accuracy, grad_norm, tokens_per_second
            FROM training_curves WHERE (run, iteration) IN (
                SELECT runs.name, number FROM rounds JOIN runs ON runs.id = run_id
                WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND kind = 'iteration'
            )
            ORDER BY iteration, step
        """),
        {"run_id": run_id},
    )
    return rows_of(rows, TrainingStep)


@dataclass(frozen=True, slots=True)
class JobCount:
    """The jobs of one kind in a run."""

    kind: str
    queued: int
    running: int
    done: int
    failed: int
    discarded: int
    seconds: float  # of workers, of those that have ended


def job_counts(connection: Connection, run_id: int) -> list[JobCount]:
    """Return the jobs of a run by kind, with those of iterations that a fork shares."""
    rows = connection.execute(
        text("""
            SELECT jobs.kind, count(*) FILTER (WHERE state = 'queued') AS queued,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'done') AS done,
                count(*) FILTER (WHERE state = 'failed') AS failed,
                count(*) FILTER (WHERE state = 'discarded') AS discarded,
                CAST(coalesce(sum(extract(epoch FROM finished_at - started_at)), 0) AS double precision)
                    AS seconds
            FROM jobs JOIN rounds ON rounds.id = jobs.round_id
            WHERE rounds.id IN (SELECT rounds_of(:run_id)) GROUP BY jobs.kind ORDER BY jobs.kind
        """),
        {"run_id": run_id},
    )
    return rows_of(rows, JobCount)
