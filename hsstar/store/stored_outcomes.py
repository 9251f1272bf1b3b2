"""What the samples of each problem of a complete round came to, stored for fast tables of problems."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file


def write(connection: Connection, round_id: int, problem_ids: Sequence[int] | None = None) -> None:
    """Store what the samples of problems of a round (None: of all) came to; replace what is stored."""
    values = {"round_id": round_id, "problem_ids": None if problem_ids is None else list(problem_ids)}
    execute_file(connection, "store_outcomes", values)


def use(connection: Connection, round_id: int, *, stored: bool) -> None:
    """Let the view problem_outcomes read what is stored of a round, or count its samples."""
    connection.execute(
        text("UPDATE rounds SET outcomes_stored = :stored WHERE id = :id"),
        {"id": round_id, "stored": stored},
    )
