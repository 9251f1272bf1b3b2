"""Do partitions by round win? The tables of samples and responses, plain and partitioned, at a chosen size.

Both layouts hold the same rows in ten rounds and have the product's columns, checks and indices. The pairs
come from the product's own statement, which finds the tables of a layout by the search path.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from bench.queue_setup import figure
from bench.scale import server_time
from bench.setup import fill, seconds, temporary_postgres, tidy
from hsstar.stages.sample import BATCH_SAMPLES
from hsstar.store import method
from hsstar.store.database import Database
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

ROUNDS = 10
SLOTS = 8
PROBLEMS_OF_BATCH = 2_000
PLAIN = """
    CREATE SCHEMA plain;
    CREATE TABLE plain.samples (LIKE public.samples INCLUDING ALL) WITH (fillfactor = 80);
    CREATE TABLE plain.sample_responses (
        sample_id bigint PRIMARY KEY REFERENCES plain.samples ON DELETE CASCADE,
        response text NOT NULL
    )
"""
PARTITIONED = """
    CREATE SCHEMA partitioned;
    CREATE TABLE partitioned.samples (
        LIKE public.samples INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
        PRIMARY KEY (round_id, id),
        UNIQUE (round_id, problem_id, slot)
    ) PARTITION BY LIST (round_id);
    CREATE TABLE partitioned.sample_responses (
        round_id bigint,
        sample_id bigint,
        response text NOT NULL,
        PRIMARY KEY (round_id, sample_id)
    ) PARTITION BY LIST (round_id)
"""
COLUMNS = """
    problem_id, slot, verdict, cause, min_reward, tokens, seed, model_id, worker, text_hash
"""


@dataclass(frozen=True)
class Layout:
    """A schema with tables of samples and responses."""

    name: str
    tables: str
    partition: Callable[[int], list[str]]
    responses: str  # columns
    drop: Callable[[int], list[str]]


def _partitions(round_id: int) -> list[str]:
    return [
        f"CREATE TABLE partitioned.{table}_{round_id} PARTITION OF partitioned.{table} "
        f"FOR VALUES IN ({round_id}){options}"
        for table, options in (("samples", " WITH (fillfactor = 80)"), ("sample_responses", ""))
    ]


LAYOUTS = (
    Layout(
        "plain",
        PLAIN,
        lambda _: [],
        "sample_id",
        lambda round_id: [
            f"DELETE FROM plain.samples WHERE round_id = {round_id}",
            "VACUUM plain.samples",
            "VACUUM plain.sample_responses",
        ],
    ),
    Layout(
        "partitioned",
        PARTITIONED,
        _partitions,
        "round_id, sample_id",
        lambda round_id: [
            f"DROP TABLE partitioned.samples_{round_id}, partitioned.sample_responses_{round_id}"
        ],
    ),
)


def compare(rows: int) -> dict[str, Any]:
    """Measure both layouts with this number of samples."""
    problems = rows // ROUNDS // SLOTS
    with temporary_postgres() as database:
        with database.begin() as connection:
            run, iteration = fill(connection, problems)
            ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
        for start in range(0, problems, PROBLEMS_OF_BATCH):
            with database.begin() as connection:
                method.label_problems(connection, run, iteration, ids[start : start + PROBLEMS_OF_BATCH])
        tidy(database)
        return {
            "samples": problems * SLOTS * ROUNDS,
            **{layout.name: _measure(database, layout, run, iteration, ids) for layout in LAYOUTS},
        }


def _measure(
    database: Database, layout: Layout, run: Run, iteration: Round, problem_ids: list[int]
) -> dict[str, float]:
    with database.begin() as connection:
        connection.exec_driver_sql(layout.tables)
        first, last = connection.execute(text("SELECT min(id), max(id) FROM samples")).one()
        for number in range(ROUNDS):
            for statement in layout.partition(iteration.id + number):
                connection.exec_driver_sql(statement)
    for number in range(1, ROUNDS):
        _insert(database, layout, iteration.id + number, number * (last - first + 1), first, last)
    tidy(database)
    found: dict[str, float] = {}

    def insert() -> None:
        for start in range(first, last + 1, BATCH_SAMPLES):
            _insert(database, layout, iteration.id, 0, start, min(last, start + BATCH_SAMPLES - 1))

    def pair() -> None:
        for start in range(0, len(problem_ids), PROBLEMS_OF_BATCH):
            with _taken_back(database, layout) as connection:
                method.build_pairs(connection, run, iteration, problem_ids[start : start + PROBLEMS_OF_BATCH])

    def delete() -> None:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in layout.drop(iteration.id + 1):
                connection.exec_driver_sql(statement)

    for name, action in (("insert", insert), ("pair", pair), ("delete", delete)):
        if name == "pair":
            tidy(database)
        before = server_time(database)
        found[f"{name}_seconds"] = seconds(action)
        found[f"{name}_server_seconds"] = server_time(database) - before
        found[f"bytes_after_{name}"] = figure(
            database,
            f"SELECT sum(pg_total_relation_size(pg_class.oid)) FROM pg_class "
            f"WHERE relnamespace = '{layout.name}'::regnamespace AND relkind = 'r'",
        )
    with database.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {layout.name} CASCADE")
    return found


def _insert(database: Database, layout: Layout, round_id: int, shift: int, first: int, last: int) -> None:
    with database.begin() as connection:
        connection.execute(
            text(f"""
                INSERT INTO {layout.name}.samples (id, round_id, {COLUMNS})
                SELECT id + :shift, :round_id, {COLUMNS} FROM public.samples WHERE id BETWEEN :first AND :last
            """),
            {"shift": shift, "round_id": round_id, "first": first, "last": last},
        )
        named = layout.responses.replace("sample_id", "sample_id + :shift").replace(
            "round_id", "CAST(:round_id AS bigint)"
        )
        connection.execute(
            text(f"""
                INSERT INTO {layout.name}.sample_responses ({layout.responses}, response)
                SELECT {named}, response FROM public.sample_responses
                WHERE sample_id BETWEEN :first AND :last AND CAST(:round_id AS bigint) > 0
            """),
            {"shift": shift, "round_id": round_id, "first": first, "last": last},
        )


@contextmanager
def _taken_back(database: Database, layout: Layout) -> Iterator[Connection]:
    """Open a transaction that finds the layout's tables and changes nothing."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"SET LOCAL search_path TO {layout.name}, public")
        yield connection
        connection.rollback()
