"""Overlaps of training problems with evaluation datasets: found by the pure rule, stored as rows."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.contamination import OverlapCount, OverlapIndex, marks_of
from hsstar.store.database import rows_of

_BATCH = 1_000


def evaluation_datasets(connection: Connection, names: Sequence[str] = ()) -> list[int]:
    """Return the ids of benchmarks, of datasets that runs are evaluated on, and of these names."""
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
    """Return the ids of the datasets that no run is evaluated on."""
    query = text("SELECT id FROM datasets WHERE id <> ALL (CAST(:evaluated AS bigint[])) ORDER BY id")
    return list(connection.execute(query, {"evaluated": evaluation_datasets(connection)}).scalars())


def find_overlaps(
    connection: Connection, dataset_ids: Sequence[int], against_ids: Sequence[int], after_id: int = 0
) -> list[OverlapCount]:
    """Find and store overlaps of problems with a greater id than `after_id`; count all that are known.

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
    overlaps: list[tuple[int, int, int, str]] = []
    for row in problems:
        marks = marks_of(row.statement)
        for against, index in indexes.items():
            if (overlap := index.statements.find(marks)) is not None:
                overlaps.append((row.id, against, index.problem_ids[overlap.place], overlap.kind.value))
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
            "problems": [problem for problem, _, _, _ in overlaps],
            "datasets": [against for _, against, _, _ in overlaps],
            "others": [other for _, _, other, _ in overlaps],
            "kinds": [kind for _, _, _, kind in overlaps],
        },
    )
    return count_overlaps(connection, dataset_ids, against_ids)


class _Index:
    """The statements of a dataset with the ids of its problems."""

    def __init__(self, connection: Connection, dataset_id: int) -> None:
        rows = connection.execute(
            text("SELECT id, statement FROM problems WHERE dataset_id = :id ORDER BY id"), {"id": dataset_id}
        ).all()
        self.problem_ids: list[int] = [row.id for row in rows]
        self.statements = OverlapIndex([row.statement for row in rows])


def count_overlaps(
    connection: Connection, dataset_ids: Sequence[int], against_ids: Sequence[int]
) -> list[OverlapCount]:
    """Count the known overlaps between these datasets, by name; pairs of datasets without any are omitted."""
    rows = connection.execute(
        text("""
            SELECT datasets.name AS dataset,
                (SELECT count(*) FROM problems WHERE dataset_id = datasets.id) AS problems,
                against.name AS against,
                count(*) FILTER (WHERE kind = 'exact') AS exact,
                count(*) FILTER (WHERE kind <> 'exact') AS runs
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
    return rows_of(rows, OverlapCount)
