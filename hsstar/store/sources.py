"""Sources: policies that draw samples for the iterations of a run beside the one that it trains.

Their samples lie in rounds of their own. So nothing that counts the samples of an iteration (its difficulty,
its allocation, its accuracy) counts theirs; only the choice of pairs and examples asks for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from hsstar.recipe.source import SourceSection
from hsstar.store.database import analyse_rounds, exists, rows_of
from hsstar.store.rounds import Round, add_round
from hsstar.store.runs import Run, look_again


@dataclass(frozen=True, slots=True)
class SourceRound:
    """The round in which a source samples the problems of an iteration."""

    round_id: int
    source: str
    rejects: bool  # whether its incorrect samples may be rejected in pairs


def begin(connection: Connection, run: Run, iteration: Round, *, labelled: bool) -> None:
    """Add the rounds of the sources that draw from now on: with the pre-samples, or once levels are known.

    The caller moves the iteration in the same transaction, so each round is added once.
    """
    for source in run.recipe.sources:
        if bool(source.levels) is labelled:
            _add(connection, run, iteration, source)


def _add(connection: Connection, run: Run, iteration: Round, source: SourceSection) -> None:
    model_id: int = connection.execute(
        text("SELECT model_id FROM run_sources WHERE run_id = :run_id AND name = :name"),
        {"run_id": run.id, "name": source.name},
    ).scalar_one()
    added = add_round(connection, run.id, "source", iteration.number, model_id, source.name)
    connection.execute(
        text("INSERT INTO source_rounds (round_id, source) VALUES (:id, :source)"),
        {"id": added.id, "source": source.name},
    )
    connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment)
            SELECT :round_id, problem_id, position, :samples
            FROM round_problems LEFT JOIN difficulty_labels USING (round_id, problem_id)
            WHERE round_id = :iteration AND exclusion IS NULL AND (
                cardinality(CAST(:levels AS text[])) = 0 OR level = ANY (CAST(:levels AS text[]))
            )
        """),
        {
            "round_id": added.id,
            "iteration": iteration.id,
            "samples": source.samples,
            "levels": [level.value for level in source.levels],
        },
    )
    analyse_rounds(connection)


def find_section(connection: Connection, run: Run, of: Round) -> SourceSection | None:
    """Return the source that samples a round; None for a round of the policy."""
    if of.kind != "source":
        return None
    query = text("SELECT source FROM source_rounds WHERE round_id = :id")
    name = connection.execute(query, {"id": of.id}).scalar_one()
    return next(source for source in run.recipe.sources if source.name == name)


def list_unfinished(connection: Connection, run_id: int) -> list[Round]:
    """Return the rounds of a run's sources that lack samples, verdicts or rewards."""
    query = text("""
        SELECT id, run_id, kind, number, model_id
        FROM rounds JOIN source_rounds ON source_rounds.round_id = rounds.id
        WHERE run_id = :run_id AND finished_at IS NULL ORDER BY id
    """)
    return rows_of(connection.execute(query, {"run_id": run_id}), Round)


def finish(connection: Connection, source_round: Round) -> bool:
    """Record that a round lacks nothing; return False if somebody else has done so.

    Its iteration may have waited for it.
    """
    query = text("UPDATE source_rounds SET finished_at = now() WHERE round_id = :id AND finished_at IS NULL")
    look_again(connection, source_round.run_id)
    return connection.execute(query, {"id": source_round.id}).rowcount == 1


_TAUGHT = """
    FROM rounds AS iteration
    JOIN rounds USING (run_id, number)
    JOIN source_rounds ON source_rounds.round_id = rounds.id
    JOIN run_sources ON run_sources.run_id = rounds.run_id AND run_sources.name = source_rounds.source
    WHERE iteration.id = :id AND use <> 'record'
"""


def are_awaited(connection: Connection, iteration: Round) -> bool:
    """Tell whether a source that an iteration learns from has not ended."""
    query = text(f"SELECT {_TAUGHT} AND source_rounds.finished_at IS NULL LIMIT 1")
    return exists(connection, query, {"id": iteration.id})


def list_taught(connection: Connection, iteration_id: int) -> list[SourceRound]:
    """Return the rounds of the sources that an iteration learns from."""
    query = text(f"""
        SELECT rounds.id AS round_id, source_rounds.source, use = 'both' AS rejects
        {_TAUGHT} ORDER BY rounds.id
    """)
    return rows_of(connection.execute(query, {"id": iteration_id}), SourceRound)


def columns_of(taught: Sequence[SourceRound]) -> dict[str, Any]:
    """Return these rounds as the arrays that the statements on pairs and examples read."""
    return {
        "source_ids": [of.round_id for of in taught],
        "source_names": [of.source for of in taught],
        "source_rejects": [of.rejects for of in taught],
    }
