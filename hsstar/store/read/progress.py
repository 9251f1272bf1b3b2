"""What is done, in flight, failed and remaining: the numbers behind `hsstar status` and the progress view."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file

_OVERDUE_SECONDS = 8
"""Sweeps send wake-ups every two seconds."""


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """How far a round is.

    Attributes:
        kind: `iteration` or `evaluation`.
        number: of the iteration, or t of the evaluated policy M_t.
        state: of the iteration; `running` or `done` for an evaluation.
        budget: samples that the round may draw.
        allotted: samples allotted so far (pre-samples first, the rest once difficulty is known).
        queued, running, failed: jobs of the round.
        slots_in_flight: samples that queued or running sampling jobs have still to draw.
        failed_slots: samples held by failed sampling jobs.
        excluded: problems left out.
        training_steps_done, training_steps: optimiser steps.
        seconds: since the round's first job, until its last while nothing is live.
        evaluation_key: what an evaluation measures; empty for an iteration.
    """

    kind: str
    number: int
    state: str
    model: str | None
    problems: int
    excluded: int
    budget: int
    allotted: int
    drawn: int
    verified: int
    scored: int
    inlier: int
    boundary: int
    outlier: int
    pairs: int
    queued: int
    running: int
    failed: int
    slots_in_flight: int
    failed_slots: int
    training_steps_done: int
    training_steps: int | None
    started_at: datetime | None
    seconds: float | None
    accuracy: float | None
    standard_error: float | None
    evaluation_key: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "done"


def round_progress(connection: Connection, run_id: int) -> list[RoundProgress]:
    """The progress of every round of a run: iterations first, then evaluations, each by number."""
    return [RoundProgress(*row) for row in execute_file(connection, "progress", {"run_id": run_id})]


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue of a run: waiting jobs and the workers that could take them.

    Attributes:
        queued, running, failed: jobs.
        workers: live workers that serve the queue, of any run.
        wakeups_due: queued jobs whose wake-up is overdue: no live worker could send it.
        next_attempt_seconds: until the first delayed job may be tried again; None where none is delayed.
        last_error: of a job that failed or will be tried again.
    """

    kind: str
    queued: int
    running: int
    failed: int
    workers: int
    wakeups_due: int
    next_attempt_seconds: float | None
    last_error: str | None


def queue_states(connection: Connection, run_id: int) -> list[QueueState]:
    """The queues in which a run has jobs that are not done."""
    rows = connection.execute(
        text("""
            SELECT
                jobs.kind,
                count(*) FILTER (WHERE jobs.state = 'queued'),
                count(*) FILTER (WHERE jobs.state = 'running'),
                count(*) FILTER (WHERE jobs.state = 'failed'),
                (
                    SELECT count(*) FROM worker_activity
                    WHERE jobs.kind = ANY (string_to_array(role, ',')) AND state IN ('idle', 'busy')
                ),
                count(*) FILTER (
                    WHERE jobs.state = 'queued' AND wakeup_sent_at IS NULL
                      AND available_at < now() - make_interval(secs => :overdue)
                      AND NOT EXISTS (  -- of a long queue only the head gets wake-ups
                          SELECT FROM jobs AS head
                          WHERE head.kind = jobs.kind AND head.state = 'queued'
                            AND head.wakeup_sent_at IS NOT NULL
                      )
                ),
                CAST(min(extract(epoch FROM available_at - now()))
                    FILTER (WHERE jobs.state = 'queued' AND available_at > now()) AS double precision),
                (array_agg(error ORDER BY jobs.id DESC) FILTER (WHERE error IS NOT NULL))[1]
            FROM jobs
            JOIN rounds ON rounds.id = jobs.round_id
            WHERE rounds.run_id = :run_id AND jobs.state NOT IN ('done', 'discarded')
            GROUP BY jobs.kind
            ORDER BY jobs.kind
        """),
        {"run_id": run_id, "overdue": _OVERDUE_SECONDS},
    )
    return [QueueState(*row) for row in rows]


def exclusions(connection: Connection, run_id: int) -> list[tuple[str, int]]:
    """(reason, problems) for the problems that the iterations of a run left out."""
    rows = connection.execute(
        text("""
            SELECT exclusion, count(*) FROM round_problems
            JOIN rounds ON rounds.id = round_problems.round_id
            WHERE run_id = :run_id AND exclusion IS NOT NULL
            GROUP BY exclusion ORDER BY count(*) DESC
        """),
        {"run_id": run_id},
    )
    return [(row[0], row[1]) for row in rows]


def reward_quality(connection: Connection, run_id: int) -> dict[int, float | None]:
    """Per iteration, how well `S(r)` separates right from wrong samples: the area under the ROC curve.

    The probability that a correct sample has a higher minimum reward than an incorrect one, ties
    counting half (the Mann–Whitney statistic). None where one of the two is missing.
    """
    rows = connection.execute(
        text("""
            WITH ranked AS (
                SELECT iteration, verdict,
                    rank() OVER same + (count(*) OVER tied - 1) / 2.0 AS mean_rank
                FROM sample_facts
                JOIN runs ON runs.name = sample_facts.run
                WHERE runs.id = :run_id AND verdict IS NOT NULL AND min_reward IS NOT NULL
                WINDOW
                    same AS (PARTITION BY iteration ORDER BY min_reward),
                    tied AS (PARTITION BY iteration, min_reward)
            ),
            sums AS (
                SELECT iteration,
                    count(*) FILTER (WHERE verdict = 'correct') AS correct,
                    count(*) FILTER (WHERE verdict = 'incorrect') AS incorrect,
                    sum(mean_rank) FILTER (WHERE verdict = 'correct') AS rank_sum
                FROM ranked GROUP BY iteration
            )
            SELECT iteration,
                CAST((rank_sum - correct * (correct + 1) / 2.0) / nullif(correct * incorrect, 0)
                    AS double precision)
            FROM sums ORDER BY iteration
        """),
        {"run_id": run_id},
    )
    return {row[0]: row[1] for row in rows}


def iteration_statistics(connection: Connection, run_name: str) -> list[dict[str, Any]]:
    """The rows of the view `iteration_statistics` for one run, by iteration."""
    rows = connection.execute(
        text("SELECT * FROM iteration_statistics WHERE run = :run ORDER BY iteration"), {"run": run_name}
    )
    return [dict(row) for row in rows.mappings()]
