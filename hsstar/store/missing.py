"""The discarding of failed jobs, whose work stays missing."""

from collections import defaultdict

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState, states_before
from hsstar.store import rounds
from hsstar.store.database import execute_file, exists


def discard_failed(connection: Connection, run_id: int) -> int:
    """Discard the failed jobs of a run, exclude their problems from their rounds; return how many jobs.

    A discarded training leaves the iteration with the policy that it sampled from.
    """
    values = {"run_id": run_id, "before": states_before(JobState.DISCARDED)}
    rows = execute_file(connection, "discard_failed", values).all()
    reasons: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for row in rows:
        if row.problem_id is not None:
            reasons[row.round_id][row.problem_id] = f"discarded: {row.error}"
    for round_id, by_problem in reasons.items():
        rounds.exclude(connection, round_id, by_problem)
    rounds.set_looked_at(connection, sorted({row.round_id for row in rows}), None)
    return len({row.id for row in rows})


def training_discarded(connection: Connection, round_id: int) -> bool:
    """Tell whether the training of an iteration was discarded."""
    return exists(
        connection,
        text("SELECT FROM jobs WHERE round_id = :id AND kind = :kind AND state = :state LIMIT 1"),
        {"id": round_id, "kind": JobKind.TRAIN, "state": JobState.DISCARDED},
    )
