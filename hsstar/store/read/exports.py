"""Exports: what a run has made and how hard its problems are, as rows with the published names, streamed."""

from collections.abc import Iterator
from typing import Any, Literal

from sqlalchemy import Connection, CursorResult, text

from hsstar.store.database import execute_file
from hsstar.store.datasets import Dataset
from hsstar.store.runs import Run

Row = dict[str, Any]
RoundKind = Literal["iteration", "evaluation", "source"]
GroupReward = Literal["verdict", "reward"]

_BATCH = 1_000
_REWARD_KEYS = ("query", "resp", "reward", "step_rewards", "correct", "step_rule", "step_spans")


def export_pairs(connection: Connection, run: Run) -> Iterator[Row]:
    """Yield every pair of a run: `statement`, `chosen`, `rejected`, and their origin."""
    return _streamed(execute_file(connection, "export_pairs", {"run_id": run.id}, batch=_BATCH))


def export_samples(connection: Connection, run: Run, kind: RoundKind = "iteration") -> Iterator[Row]:
    """Yield every sample of a run's iterations, its evaluations or its sources, with the published names.

    Beside them `evaluation` or `source` says which of these it is of.
    """
    values = {"run_id": run.id, "kind": kind}
    for row in _streamed(execute_file(connection, "export_samples", values, batch=_BATCH)):
        measure = row.pop("measure")
        yield row if kind == "iteration" else row | {kind: measure}


def export_rewards(connection: Connection, run: Run) -> Iterator[Row]:
    """Yield every scored sample of a run's iterations as a published reward line."""
    for row in export_samples(connection, run):
        if row["reward"] is not None:
            yield {key: row[key] for key in _REWARD_KEYS}


def export_groups(connection: Connection, run: Run, by: GroupReward) -> Iterator[Row]:
    """Yield every sample of a run's iterations that has a reward, with its advantage among its problem's."""
    return _streamed(execute_file(connection, "export_groups", {"run_id": run.id, "by": by}, batch=_BATCH))


def export_problems(connection: Connection, dataset: Dataset) -> Iterator[Row]:
    """Yield every problem of a dataset, with the names by which it can be imported again."""
    return _streamed(execute_file(connection, "export_problems", {"dataset_id": dataset.id}, batch=_BATCH))


def export_difficulty(connection: Connection, run: Run, iteration: int | None = None) -> Iterator[Row]:
    """Yield the problems of a run's iterations with pass rate, φ_acc, φ_r and level."""
    values = {"run_id": run.id, "iteration": iteration}
    return _streamed(execute_file(connection, "export_difficulty", values, batch=_BATCH))


def export_evaluations(connection: Connection, run: Run | None) -> Iterator[Row]:
    """Yield the results of the evaluations of a run (None: of all runs)."""
    query = text("""
        SELECT * FROM evaluation_results
        WHERE CAST(:run AS text) IS NULL OR run = :run
        ORDER BY run, iteration, benchmark, round_id
    """)
    return _streamed(connection.execute(query, {"run": None if run is None else run.name}))


def _streamed(result: CursorResult[*tuple[Any, ...]]) -> Iterator[Row]:
    return (dict(row) for row in result.mappings())
