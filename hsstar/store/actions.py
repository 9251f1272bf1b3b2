"""What people did in the pages of a run: a row before each action, its outcome afterwards."""

from uuid import UUID

from sqlalchemy import Connection, text

from hsstar.domain.text import storable

_LONGEST = 1_000  # characters of an outcome


def record(
    connection: Connection, key: UUID, author: str, action: str, run: str, sample_id: int | None, detail: str
) -> bool:
    """Record that somebody asks for an action; return False if this `key` has asked before."""
    query = text("""
        INSERT INTO actions (key, author, action, run, sample_id, detail)
        VALUES (:key, :author, :action, :run, :sample_id, nullif(:detail, ''))
        ON CONFLICT (key) DO NOTHING
    """)
    values = {
        "key": key, "author": storable(author), "action": action, "run": run, "sample_id": sample_id,
        "detail": storable(detail),
    }  # fmt: skip
    return connection.execute(query, values).rowcount == 1


def conclude(connection: Connection, key: UUID, outcome: str, *, refused: bool) -> None:
    """Record what an action did, or why it was refused."""
    query = text("UPDATE actions SET outcome = :outcome, refused = :refused WHERE key = :key")
    connection.execute(query, {"key": key, "outcome": storable(outcome)[:_LONGEST], "refused": refused})
