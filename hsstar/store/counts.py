"""How many samples a round has: counted by the transactions that write them, so that nobody counts millions.

A row per round and worker, so that no writer waits for another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """How many samples a round has, and how they ended."""

    drawn: int
    verified: int
    correct: int
    cut: int
    cut_by_context: int


def of_round(connection: Connection, round_id: int) -> SampleCounts:
    """Return the counts of a round, over all workers."""
    result = connection.execute(
        text("""
            SELECT
                CAST(coalesce(sum(drawn), 0) AS bigint) AS drawn,
                CAST(coalesce(sum(verified), 0) AS bigint) AS verified,
                CAST(coalesce(sum(correct), 0) AS bigint) AS correct,
                CAST(coalesce(sum(cut), 0) AS bigint) AS cut,
                CAST(coalesce(sum(cut_by_context), 0) AS bigint) AS cut_by_context
            FROM sample_counts WHERE round_id = :id
        """),
        {"id": round_id},
    )
    return SampleCounts(**result.mappings().one())


def drifted(connection: Connection) -> list[int]:
    """Return the unfinished rounds whose counters differ from their samples; it reads all of these."""
    return list(execute_file(connection, "drifted", {}).scalars())


def recount(connection: Connection, round_ids: Sequence[int]) -> None:
    """Count the samples of some rounds again; who writes samples meanwhile waits."""
    connection.execute(text("LOCK TABLE sample_counts IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(
        text("DELETE FROM sample_counts WHERE round_id = ANY (:round_ids)"), {"round_ids": list(round_ids)}
    )
    execute_file(connection, "recount", {"round_ids": list(round_ids)})
