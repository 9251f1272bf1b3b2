"""Exports: preference pairs, samples and rewards in the published layouts, streamed."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection

from hsstar.store.database import execute_file
from hsstar.store.runs import Run

_BATCH = 1_000
_REWARD_KEYS = ("query", "resp", "reward", "correct")


def export_pairs(connection: Connection, run: Run, render: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """Yield every pair of a run: `prompt` by this renderer, `chosen`, `rejected`, and their origin."""
    for row in execute_file(connection, "export_pairs", {"run_id": run.id}, batch=_BATCH).mappings():
        pair = dict(row)
        yield {"prompt": render(pair.pop("statement"))} | pair


def export_samples(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """Yield every sample of a run's iterations, with the published names of its fields."""
    for row in execute_file(connection, "export_samples", {"run_id": run.id}, batch=_BATCH).mappings():
        yield dict(row)


def export_rewards(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """Yield every scored sample of a run's iterations as a published reward line."""
    for row in export_samples(connection, run):
        if row["reward"] is not None:
            yield {key: row[key] for key in _REWARD_KEYS}
