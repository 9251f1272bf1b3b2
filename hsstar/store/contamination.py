"""Overlaps of training problems with datasets of evaluations: found by the pure rule, kept as rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.contamination import OverlapIndex, marks_of

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class OverlapCount:
    """How many problems of one dataset overlap another one.

    Attributes:
        dataset: whose problems overlap.
        problems: of that dataset, all of them.
        against: the dataset of evaluations.
        exact: problems with an equal statement there.
        runs: problems that share a run of words with one there.
    """

    dataset: str
    problems: int
    against: str
    exact: int
    runs: int


def evaluation_datasets(connection: Connection, names: Sequence[str] = ()) -> list[int]:
    """The ids of every benchmark, of what runs are evaluated on, and of the datasets of these names."""
    rows = connection.execute(
        text("""
            SELECT id FROM datasets
            WHERE benchmark IS NOT NULL OR name = ANY (CAST(:names AS text[]))
               OR id IN (SELECT dataset_id FROM evaluations)
               OR name IN (SELECT recipe -> 'evaluation' ->> 'dataset' FROM runs)
            ORDER BY id
        """),
        {"names": list(names)},
    )
    return list(rows.scalars())


def training_datasets(connection: Connection) -> list[int]:
    """The ids of the datasets that no run is evaluated on."""
    measured = evaluation_datasets(connection)
    rows = connection.execute(
        text("SELECT id FROM datasets WHERE id <> ALL (CAST(:measured AS bigint[])) ORDER BY id"),
        {"measured": measured},
    )
    return list(rows.scalars())


def find_overlaps(
    connection: Connection, dataset_ids: Sequence[int], against_ids: Sequence[int], after_id: int = 0
) -> list[OverlapCount]:
    """Looks for overlaps, keeps them, and counts those that are new or known.

    Args:
        connection: an open transaction.
        dataset_ids: whose problems are looked at.
        against_ids: datasets of evaluations.
        after_id: look at problems with a greater id only.

    Takes about 4 seconds for 75,000 problems against the seven benchmarks.
    """
    indexes = {against: _Index(connection, against) for against in against_ids}
    problems = connection.execute(
        text("""
            SELECT id, statement FROM problems
            WHERE dataset_id = ANY (CAST(:datasets AS bigint[])) AND id > :after ORDER BY id
        """),
        {"datasets": list(dataset_ids), "after": after_id},
        execution_options={"yield_per": _BATCH},
    )
    found: list[tuple[int, int, int, str]] = []
    for row in problems:
        marks = marks_of(row.statement)
        for against, index in indexes.items():
            if (overlap := index.statements.find(marks)) is not None:
                found.append((row.id, against, index.problem_ids[overlap.place], overlap.kind.value))
    _write(connection, found)
    return count_overlaps(connection, dataset_ids, against_ids)


class _Index:
    """The statements of a dataset with the ids of its problems."""

    def __init__(self, connection: Connection, dataset_id: int) -> None:
        rows = connection.execute(
            text("SELECT id, statement FROM problems WHERE dataset_id = :id ORDER BY id"), {"id": dataset_id}
        ).all()
        self.problem_ids: list[int] = [row.id for row in rows]
        self.statements = OverlapIndex([row.statement for row in rows])


def _write(connection: Connection, found: Sequence[tuple[int, int, int, str]]) -> None:
    connection.execute(
        text("""
            INSERT INTO problem_overlaps (problem_id, dataset_id, other_id, kind)
            SELECT * FROM unnest(
                CAST(:problems AS bigint[]), CAST(:datasets AS bigint[]), CAST(:others AS bigint[]),
                CAST(:kinds AS text[])
            )
            ON CONFLICT (problem_id, dataset_id) DO NOTHING
        """),
        {
            "problems": [each[0] for each in found],
            "datasets": [each[1] for each in found],
            "others": [each[2] for each in found],
            "kinds": [each[3] for each in found],
        },
    )


def count_overlaps(
    connection: Connection, dataset_ids: Sequence[int], against_ids: Sequence[int]
) -> list[OverlapCount]:
    """The overlaps that are known between these datasets, by their names; pairs without any are left out."""
    rows = connection.execute(
        text("""
            SELECT datasets.name, (SELECT count(*) FROM problems WHERE dataset_id = datasets.id),
                against.name,
                count(*) FILTER (WHERE kind = 'exact'), count(*) FILTER (WHERE kind <> 'exact')
            FROM problem_overlaps
            JOIN problems ON problems.id = problem_overlaps.problem_id
            JOIN datasets ON datasets.id = problems.dataset_id
            JOIN datasets AS against ON against.id = problem_overlaps.dataset_id
            WHERE datasets.id = ANY (CAST(:datasets AS bigint[]))
              AND against.id = ANY (CAST(:against AS bigint[]))
            GROUP BY datasets.id, against.id
            ORDER BY datasets.name, against.name
        """),
        {"datasets": list(dataset_ids), "against": list(against_ids)},
    )
    return [OverlapCount(*row) for row in rows]
