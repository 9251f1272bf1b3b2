"""Progress: what is done, in flight, failed and remaining in a run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of

_OVERDUE_SECONDS = 8
"""Sweeps send wake-ups every two seconds."""


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """The progress of a round."""

    kind: str  # `iteration`, `evaluation`, `steps` or `source`
    number: int  # of the iteration, or t of the policy M_t
    state: str  # of the iteration; `running` or `done` for any other
    model: str | None
    context: int | None  # tokens that the policy attends to at most
    output_model: str | None  # of an iteration: its new policy; the same where nothing was trained
    problems: int
    excluded: int  # problems left out
    budget: int  # samples that the round may draw
    allotted: int  # samples: pre-samples first, the rest once difficulty is known
    drawn: int
    verified: int
    scored: int
    correct: int
    cut: int  # at a length limit
    cut_by_context: int  # of these, before max_new_tokens, because the context was full
    no_answer: int
    mean_tokens: float | None  # of a response; None for imported ones
    waves: int  # helpings of the remaining budget that are decided
    inlier: int
    boundary: int
    outlier: int
    pairs: int
    distinct_pairs: int  # whose two texts no earlier pair of the problem has
    problems_with_pair: int
    queued: int  # jobs of the round
    running: int
    failed: int
    slots_in_flight: int  # samples that queued or running sampling jobs have yet to draw
    failed_slots: int  # samples assigned to failed sampling jobs
    training_steps_done: int
    training_steps: int | None  # optimiser steps
    rows_trained: int  # pairs or solutions seen by a training that has ended, repetitions included
    started_at: datetime | None
    seconds: float | None  # from the start of the round's first job to the end of its last, or until now
    accuracy: float | None
    standard_error: float | None
    evaluation_key: str = ""  # what is evaluated or continued, or a source; empty for an iteration

    @property
    def done(self) -> bool:
        """Whether all work of the round is done."""
        return self.state == "done"


def round_progress(connection: Connection, run_id: int) -> list[RoundProgress]:
    """Return the progress of every round of a run: iterations, evaluations, sources, step labels."""
    return rows_of(execute_file(connection, "progress", {"run_id": run_id}), RoundProgress)


@dataclass(frozen=True, slots=True)
class PolicyLengths:
    """Mean tokens of the responses of a policy, None where there is none, and what its pairs did to it."""

    policy: int  # t of M_t
    model: str
    held_out: float | None  # of its answers to the held-out problems
    sampled: float | None  # of its samples
    inlier: float | None  # of these to inlier problems
    boundary: float | None
    outlier: float | None
    chosen: float | None  # in its preference pairs
    rejected: float | None
    chosen_logp_change: float | None  # nats, of chosen responses by the training on them


def policy_lengths(connection: Connection, run_name: str) -> list[PolicyLengths]:
    """Return the lengths of every policy of a run, M_0 first."""
    return rows_of(execute_file(connection, "policy_lengths", {"run": run_name}), PolicyLengths)


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue of a run: its jobs, and the workers that serve it."""

    kind: str
    queued: int
    running: int
    failed: int
    workers: int  # live workers that serve the queue, of any run
    wakeups_due: int  # queued jobs whose wake-up is overdue, because no live worker sent it
    next_attempt_seconds: float | None  # until the next attempt at a delayed job; None without one
    last_error: str | None  # of the newest job that has one
    still_seconds: float | None = None  # for which a running job has got no further, at most
    abandoned: int = 0  # running jobs whose lease has expired


def queue_states(connection: Connection, run_id: int) -> list[QueueState]:
    """Return the queues in which a run has jobs that are not done."""
    values = {"run_id": run_id, "overdue": _OVERDUE_SECONDS}
    return rows_of(execute_file(connection, "queue_states", values), QueueState)


def exclusions(connection: Connection, run_id: int) -> list[tuple[str, int]]:
    """Return (reason, problems) for the problems that the iterations of a run left out."""
    rows = connection.execute(
        text("""
            SELECT exclusion, count(*) AS problems FROM round_problems
            JOIN rounds ON rounds.id = round_problems.round_id
            WHERE run_id = :run_id AND exclusion IS NOT NULL
            GROUP BY exclusion ORDER BY problems DESC
        """),
        {"run_id": run_id},
    )
    return [(row.exclusion, row.problems) for row in rows]


def iteration_statistics(connection: Connection, run_name: str) -> list[dict[str, Any]]:
    """Return the rows of the view `iteration_statistics` for one run, by iteration."""
    query = text("SELECT * FROM iteration_statistics WHERE run = :run ORDER BY iteration")
    return rows_of(connection.execute(query, {"run": run_name}), dict)
