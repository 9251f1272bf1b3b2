"""Training runs: the pairs they read, their progress, and the policy that they made."""

import json
from typing import Any

from sqlalchemy import Connection, text

from hsstar.store.jobs import Job, fence


def load_pairs(connection: Connection, round_id: int) -> list[tuple[str, str, str]]:
    """(problem, chosen response, rejected response) of every pair of an iteration, in a fixed order."""
    rows = connection.execute(
        text("""
            SELECT problems.statement, chosen.response, rejected.response
            FROM preference_pairs AS pairs
            JOIN problems ON problems.id = pairs.problem_id
            JOIN round_problems
                ON round_problems.round_id = pairs.round_id AND round_problems.problem_id = pairs.problem_id
            JOIN samples ON samples.id = pairs.chosen_sample_id
            JOIN sample_responses AS chosen ON chosen.sample_id = pairs.chosen_sample_id
            JOIN sample_responses AS rejected ON rejected.sample_id = pairs.rejected_sample_id
            WHERE pairs.round_id = :id
            ORDER BY round_problems.position, samples.slot
        """),
        {"id": round_id},
    )
    return [(row[0], row[1], row[2]) for row in rows]


def begin_training(
    connection: Connection, job: Job, model_id: int, objective: str, settings: dict[str, Any], pairs: int
) -> int:
    """Records that a training run starts; an earlier attempt of the same job is replaced.

    Raises:
        LeaseLostError: the job has passed to someone else, whose record must not be touched.
    """
    fence(connection, job)
    connection.execute(
        text("DELETE FROM training_runs WHERE round_id = :id AND finished_at IS NULL"), {"id": job.round_id}
    )
    made: int = connection.execute(
        text("""
            INSERT INTO training_runs (round_id, job_id, model_id, objective, settings, pairs)
            VALUES (:round_id, :job_id, :model_id, :objective, CAST(:settings AS jsonb), :pairs)
            RETURNING id
        """),
        {
            "round_id": job.round_id,
            "job_id": job.id,
            "model_id": model_id,
            "objective": objective,
            "settings": json.dumps(settings),
            "pairs": pairs,
        },
    ).scalar_one()
    return made


def report_progress(connection: Connection, training_run_id: int, done: int, total: int) -> None:
    """Says how many optimiser steps are done."""
    connection.execute(
        text("UPDATE training_runs SET steps_done = :done, steps = :total WHERE id = :id"),
        {"id": training_run_id, "done": done, "total": total},
    )


def finish_training(
    connection: Connection,
    training_run_id: int,
    output_model_id: int,
    truncated: int,
    steps: int,
    metrics: dict[str, float],
) -> None:
    """Records the policy that a training run made, and its metrics."""
    connection.execute(
        text("""
            UPDATE training_runs
            SET finished_at = now(), output_model_id = :output, truncated = :truncated, steps = :steps,
                steps_done = :steps, metrics = CAST(:metrics AS jsonb)
            WHERE id = :id
        """),
        {
            "id": training_run_id,
            "output": output_model_id,
            "truncated": truncated,
            "steps": steps,
            "metrics": json.dumps(metrics),
        },
    )


def trained_model(connection: Connection, round_id: int) -> int | None:
    """The policy that an iteration's training made; None while it is not finished."""
    found: int | None = connection.scalar(
        text("SELECT output_model_id FROM training_runs WHERE round_id = :id AND finished_at IS NOT NULL"),
        {"id": round_id},
    )
    return found


def ensure_training_job(connection: Connection, round_id: int) -> None:
    """Enqueues the training of an iteration, unless a job for it stands already."""
    connection.execute(
        text("""
            INSERT INTO jobs (round_id, kind)
            SELECT :id, 'train'
            WHERE NOT EXISTS (SELECT FROM jobs WHERE round_id = :id AND kind = 'train')
        """),
        {"id": round_id},
    )
