"""Retention: the texts of old samples, which can go while everything that was found about them stays."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of


class PrunableRound(NamedTuple):
    """A round that is done, and whose texts nothing reads that is under way."""

    round_id: int
    run: str
    kind: str
    number: int
    evaluation_key: str


class Pruned(NamedTuple):
    """How many samples lost their text, and its bytes in UTF-8."""

    samples: int
    bytes: int


def list_prunable(connection: Connection, before: datetime, run_id: int | None) -> list[PrunableRound]:
    """Return the rounds, of a run or of all, that were done before a moment, oldest first."""
    values = {"before": before, "run_id": run_id}
    return rows_of(execute_file(connection, "prunable_rounds", values), PrunableRound)


def prune_texts(
    connection: Connection, round_id: int, *, keep_pairs: bool, keep_correct: bool, dry_run: bool
) -> Pruned:
    """Delete the texts and step rewards of a round's samples, except those that are kept; or only count."""
    values = {
        "round_id": round_id,
        "keep_pairs": keep_pairs,
        "keep_correct": keep_correct,
        "dry_run": dry_run,
    }
    return Pruned(*execute_file(connection, "prune_texts", values).one())


def count_pruned(connection: Connection, run_id: int) -> int:
    """Count the samples of a run's iterations, shared ones too, that have lost their text."""
    query = text("""
        SELECT CAST(coalesce(sum(texts_pruned), 0) AS bigint) FROM rounds
        WHERE kind = 'iteration' AND id IN (SELECT rounds_of(:run_id))
    """)
    return int(connection.execute(query, {"run_id": run_id}).scalar_one())


def has_pruned(connection: Connection, round_id: int) -> bool:
    """Tell whether samples of a round have lost their text."""
    query = text("SELECT texts_pruned > 0 FROM rounds WHERE id = :id")
    return bool(connection.execute(query, {"id": round_id}).scalar_one())
