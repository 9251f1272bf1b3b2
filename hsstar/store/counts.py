"""How many samples a round has: counted by the transactions that write them, so that nobody counts millions.

A row per round and worker, so that no writer waits for another.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file


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
