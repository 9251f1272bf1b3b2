"""Problems of a file into a dataset: one COPY, then a few statements over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from hsstar.domain.problems import Problem
from hsstar.domain.text import storable
from hsstar.store.database import execute_file, rows_of

_BYTES_AT_ONCE = 1 << 18

_TABLE = """
    CREATE TEMPORARY TABLE given_problems (
        number bigint, key text, statement text, reference_answer text, reference_readable boolean,
        solution text, subject text, level text, source_id text
    ) ON COMMIT DROP
"""
_COPY = "COPY given_problems FROM STDIN"
_INSERT = """
    INSERT INTO problems (
        dataset_id, key, statement, reference_answer, reference_readable, solution, subject, level, source_id
    )
    SELECT
        :dataset_id, key, statement, reference_answer, reference_readable, solution, subject, level, source_id
    FROM given_problems
    WHERE number IN (SELECT min(number) FROM given_problems GROUP BY key)
    ORDER BY number
    ON CONFLICT (dataset_id, key) DO NOTHING
"""
_REPLACE = """
    UPDATE problems
    SET reference_answer = given_problems.reference_answer,
        reference_readable = given_problems.reference_readable,
        solution = coalesce(given_problems.solution, problems.solution)
    FROM given_problems
    WHERE number IN (SELECT min(number) FROM given_problems GROUP BY key)
      AND dataset_id = :dataset_id AND problems.key = given_problems.key
      AND problems.reference_answer <> given_problems.reference_answer
    RETURNING problems.id
"""
_RUNS = """
    SELECT DISTINCT runs.name
    FROM round_problems
    JOIN rounds ON rounds.id = round_problems.round_id
    JOIN runs ON runs.id = rounds.run_id
    WHERE problem_id = ANY (CAST(:problems AS bigint[]))
    ORDER BY runs.name
"""


@dataclass(frozen=True, slots=True)
class ReferenceConflict:
    """A statement with two reference answers, the stored or first one and another."""

    statement: str
    kept: str
    other: str
    is_stored: bool  # the kept one was in the dataset before


def copied_line(number: int, problem: Problem, readable: bool) -> bytes:
    """Return a problem as a line of COPY's text format."""
    values = (
        str(number), problem.key, problem.statement, problem.reference, "t" if readable else "f",
        problem.solution, problem.subject, problem.level, problem.source_id,
    )  # fmt: skip
    return b"\t".join(map(_field, values)) + b"\n"


def copy_problems(connection: Connection, lines: IO[bytes]) -> None:
    """Copy lines into a table of this transaction, which the functions below read."""
    connection.execute(text(_TABLE))
    raw = cast(psycopg.Connection, connection.connection.driver_connection)
    try:
        with raw.cursor() as cursor, cursor.copy(_COPY) as copy:
            while data := lines.read(_BYTES_AT_ONCE):
                copy.write(data)
    except psycopg.Error as error:
        raise DBAPIError(_COPY, {}, error) from error
    connection.execute(text("ANALYZE given_problems"))


def conflicting_references(connection: Connection, dataset_id: int, most: int) -> list[ReferenceConflict]:
    """Return copied problems whose statement has another reference in the file or the dataset, at most some.

    To be asked before the problems are added.
    """
    parameters = {"dataset_id": dataset_id, "most": most}
    return rows_of(execute_file(connection, "conflicting_references", parameters), ReferenceConflict)


def add_copied_problems(connection: Connection, dataset_id: int) -> int:
    """Add the copied problems that the dataset lacks, the first of equal ones; return how many were new."""
    return connection.execute(text(_INSERT), {"dataset_id": dataset_id}).rowcount


def replace_references(connection: Connection, dataset_id: int) -> list[int]:
    """Give stored problems the references of the copied ones that differ; return the ids of the problems."""
    return list(connection.execute(text(_REPLACE), {"dataset_id": dataset_id}).scalars())


def runs_with_problems(connection: Connection, problem_ids: Sequence[int]) -> list[str]:
    """Return the names of the runs, evaluations included, that have any of these problems."""
    return list(connection.execute(text(_RUNS), {"problems": list(problem_ids)}).scalars())


def _field(value: str | None) -> bytes:
    if value is None:
        return b"\\N"
    plain = storable(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return plain.replace("\r", "\\r").encode()
