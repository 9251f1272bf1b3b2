"""Datasets and their problems."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.errors import NotFoundError
from hsstar.domain.problems import Problem
from hsstar.domain.suggestions import did_you_mean
from hsstar.domain.text import storable
from hsstar.store.database import execute_file, row_of, rows_of


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named set of problems."""

    id: int
    name: str
    problems: int
    unreadable: int  # problems whose reference answer cannot be read

    @property
    def usable(self) -> int:
        """The number of problems that iterations and evaluations may use."""
        return self.problems - self.unreadable


_INSERT_PROBLEMS = text("""
    INSERT INTO problems (
        dataset_id, key, statement, reference_answer, reference_readable, solution, subject, level, source_id
    )
    SELECT :dataset_id, *
    FROM unnest(
        CAST(:keys AS text[]), CAST(:statements AS text[]), CAST(:answers AS text[]),
        CAST(:readable AS boolean[]), CAST(:solutions AS text[]), CAST(:subjects AS text[]),
        CAST(:levels AS text[]), CAST(:source_ids AS text[])
    )
    ON CONFLICT (dataset_id, key) DO NOTHING
""")

_DATASETS = """
    SELECT datasets.id, name, count(problems.id) AS problems,
        count(*) FILTER (WHERE NOT reference_readable) AS unreadable
    FROM datasets
    LEFT JOIN problems ON problems.dataset_id = datasets.id
    WHERE CAST(:name AS text) IS NULL OR name = :name
    GROUP BY datasets.id
    ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """The names of the runs that use a dataset."""

    rounds: list[str]  # whose rounds have problems of it, or may take some
    recipes: list[str]  # whose recipe names it


@dataclass(frozen=True, slots=True)
class KnownProblem:
    """A problem of a dataset, as samples from elsewhere name it."""

    key: str
    source_id: str | None
    statement: str
    reference_answer: str


def ensure_dataset(connection: Connection, name: str) -> int:
    """Return the id of the dataset of this name; add it if it is missing."""
    connection.execute(
        text("INSERT INTO datasets (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": name}
    )
    return int(
        connection.execute(text("SELECT id FROM datasets WHERE name = :name"), {"name": name}).scalar_one()
    )


def add_problems(
    connection: Connection, dataset_id: int, problems: Sequence[Problem], readable: Sequence[bool]
) -> int:
    """Add the problems that the dataset lacks; return how many were new. Equal keys are one problem."""

    def column(values: Sequence[str | None]) -> list[str | None]:
        return [None if value is None else storable(value) for value in values]

    result = connection.execute(
        _INSERT_PROBLEMS,
        {
            "dataset_id": dataset_id,
            "keys": [problem.key for problem in problems],
            "statements": column([problem.statement for problem in problems]),
            "answers": column([problem.reference for problem in problems]),
            "readable": list(readable),
            "solutions": column([problem.solution for problem in problems]),
            "subjects": column([problem.subject for problem in problems]),
            "levels": column([problem.level for problem in problems]),
            "source_ids": column([problem.source_id for problem in problems]),
        },
    )
    return result.rowcount


def benchmark_fingerprint(connection: Connection, name: str) -> str | None:
    """Return the fingerprint of the content of a benchmark's dataset; None without such a dataset."""
    query = text("SELECT fingerprint FROM datasets WHERE name = :name")
    fingerprint: str | None = connection.scalar(query, {"name": name})
    return fingerprint


def mark_benchmark(connection: Connection, dataset_id: int, benchmark: str, fingerprint: str) -> None:
    """Mark a dataset as a benchmark with the fingerprint of its content."""
    connection.execute(
        text("UPDATE datasets SET benchmark = :benchmark, fingerprint = :fingerprint WHERE id = :id"),
        {"id": dataset_id, "benchmark": benchmark, "fingerprint": fingerprint},
    )


def statement_keys(connection: Connection, dataset_id: int) -> dict[int, str]:
    """Return by problem id the key of its statement; equal statements have equal keys."""
    rows = connection.execute(
        text("SELECT id, split_part(key, '-', 1) AS key FROM problems WHERE dataset_id = :id ORDER BY id"),
        {"id": dataset_id},
    )
    return {row.id: row.key for row in rows}


def newest_problem(connection: Connection) -> int:
    """Return the greatest id of a problem; 0 without any."""
    return int(connection.execute(text("SELECT coalesce(max(id), 0) FROM problems")).scalar_one())


def list_datasets(connection: Connection) -> list[Dataset]:
    """Return every dataset with its counts, by name."""
    return rows_of(connection.execute(text(_DATASETS), {"name": None}), Dataset)


def find_dataset(connection: Connection, name: str) -> Dataset:
    """Return the dataset of this name; raise NotFoundError, which names the existing ones, without it."""
    dataset = row_of(connection.execute(text(_DATASETS), {"name": name}), Dataset)
    if dataset is None:
        known = [other.name for other in list_datasets(connection)]
        raise NotFoundError(
            f"there is no dataset {name!r} (datasets: {', '.join(known) or 'none yet'}); "
            f"import one: hsstar problems import FILE --dataset {name}{did_you_mean(name, known)}"
        )
    return dataset


def use_of_dataset(connection: Connection, dataset: Dataset) -> DatasetUse:
    """Return which runs use a dataset."""
    parameters = {"id": dataset.id, "name": dataset.name}
    [use] = rows_of(execute_file(connection, "use_of_dataset", parameters), DatasetUse)
    return use


def delete_dataset(connection: Connection, dataset: Dataset) -> None:
    """Delete a dataset with its problems, of which no round may have any."""
    connection.execute(text("DELETE FROM datasets WHERE id = :id"), {"id": dataset.id})


def source_ids(connection: Connection, dataset_id: int) -> dict[int, str]:
    """Return by problem id the name of a problem in its source, for those that have one."""
    query = text("SELECT id, source_id FROM problems WHERE dataset_id = :id AND source_id IS NOT NULL")
    return {row.id: row.source_id for row in connection.execute(query, {"id": dataset_id})}


def find_problems(
    connection: Connection, name: str, keys: Sequence[str], names: Sequence[str]
) -> list[KnownProblem]:
    """Return the problems of a dataset with one of these keys, or with one of these names in their source."""
    query = text("""
        SELECT key, source_id, statement, reference_answer
        FROM problems JOIN datasets ON datasets.id = dataset_id
        WHERE name = :name AND (key = ANY (:keys) OR source_id = ANY (:names))
        ORDER BY problems.id
    """)
    values = {"name": name, "keys": list(keys), "names": list(names)}
    return rows_of(connection.execute(query, values), KnownProblem)


def first_problem(connection: Connection, dataset: Dataset) -> str:
    """Return the statement of the first usable problem; raise NotFoundError if the dataset has none."""
    statement: str | None = connection.execute(
        text("""
            SELECT statement FROM problems
            WHERE dataset_id = :dataset_id AND reference_readable
            ORDER BY id LIMIT 1
        """),
        {"dataset_id": dataset.id},
    ).scalar()
    if statement is None:
        raise NotFoundError(f"dataset {dataset.name!r} holds no usable problem")
    return statement


def first_statements(connection: Connection, name: str, limit: int) -> list[str]:
    """Return the first statements of a dataset; none if it is not imported."""
    rows = connection.execute(
        text("""
            SELECT statement FROM problems JOIN datasets ON datasets.id = dataset_id
            WHERE datasets.name = :name ORDER BY problems.id LIMIT :limit
        """),
        {"name": name, "limit": limit},
    )
    return list(rows.scalars())


def draw_solved(connection: Connection, dataset_id: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return statement and solution of `count` problems, or of all that have one, in the order of a seed."""
    rows = connection.execute(
        text("""
            SELECT statement, solution FROM problems
            WHERE dataset_id = :dataset_id AND solution IS NOT NULL
            ORDER BY sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'example', key), 'UTF8'))
            LIMIT :count
        """),
        {"dataset_id": dataset_id, "count": count, "seed": seed},
    )
    return [(row.statement, row.solution) for row in rows]


def longest_statement(connection: Connection, name: str) -> str | None:
    """Return the statement of a dataset with the most characters; None if it is not imported."""
    statement: str | None = connection.scalar(
        text("""
            SELECT statement FROM problems JOIN datasets ON datasets.id = dataset_id
            WHERE datasets.name = :name ORDER BY length(statement) DESC, problems.id LIMIT 1
        """),
        {"name": name},
    )
    return statement


def problem_ids(connection: Connection, dataset_id: int, keys: Sequence[str]) -> dict[str, int]:
    """Return problem ids by key, for the keys that the dataset holds."""
    rows = connection.execute(
        text("SELECT key, id FROM problems WHERE dataset_id = :dataset_id AND key = ANY (:keys)"),
        {"dataset_id": dataset_id, "keys": list(keys)},
    )
    return {row.key: row.id for row in rows}


def name_of_round(connection: Connection, round_id: int) -> str | None:
    """Return the name of the dataset of a round's problems; None without problems."""
    query = text("""
        SELECT datasets.name
        FROM round_problems
        JOIN problems ON problems.id = problem_id
        JOIN datasets ON datasets.id = dataset_id
        WHERE round_id = :id
        LIMIT 1
    """)
    name: str | None = connection.scalar(query, {"id": round_id})
    return name
