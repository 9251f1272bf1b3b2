"""Where policies come from: parents, runs, data and scores."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from hsstar.checkpoints.card import Score
from hsstar.domain.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class LineageEntry:
    """A policy and what it was made of; what concerns training is None where it was registered as it is.

    Attributes:
        run, iteration: that trained it.
        items: preference pairs, or samples for supervised fine-tuning, that it learned from.
        steps: optimiser steps.
        settings: of the trainer.
        recipe: of the run.
        depth: trainings between it and the first policy of its line.
    """

    name: str
    location: str
    parent: str | None
    run: str | None
    iteration: int | None
    objective: str | None
    items: int | None
    steps: int | None
    settings: dict[str, Any] | None
    recipe: dict[str, Any] | None
    scores: Sequence[Score]
    depth: int


def lineage(connection: Connection, name: str | None = None) -> list[LineageEntry]:
    """Every policy behind its parent; with a name its ancestors, itself and what descends from it.

    Raises:
        NotFoundError: there is no policy of that name.
    """
    scores = _scores(connection)
    rows = {row.name: row for row in _rows(connection)}
    if name is not None and name not in rows:
        raise NotFoundError(f"there is no model {name!r}; see: hsstar models list")
    children: dict[str | None, list[str]] = defaultdict(list)
    for row in rows.values():
        children[row.parent].append(row.name)
    above = set(_ancestors(rows, name)) if name else set()

    def below(parent: str | None, depth: int, all_of_them: bool) -> list[LineageEntry]:
        found = []
        for child in children[parent]:
            if all_of_them or child in above or child == name:
                row = rows[child]
                found.append(LineageEntry(*(*row[1:], scores[row.id], depth)))
                found += below(child, depth + 1, all_of_them or child == name)
        return found

    return below(None, 0, name is None)


def ancestry(connection: Connection, name: str) -> list[LineageEntry]:
    """The line of a policy: its first ancestor first, itself last.

    Raises:
        NotFoundError: there is no policy of that name.
    """
    found = lineage(connection, name)
    return found[: next(place for place, entry in enumerate(found) if entry.name == name) + 1]


def _ancestors(rows: dict[str, Any], name: str) -> list[str]:
    found = []
    parent = rows[name].parent
    while parent is not None:
        found.append(parent)
        parent = rows[parent].parent
    return found


def _rows(connection: Connection) -> Sequence[Any]:
    return connection.execute(
        text("""
            SELECT models.id, models.name, models.location, parents.name AS parent, runs.name AS run,
                rounds.number AS iteration, trained.objective, trained.pairs, trained.steps,
                trained.settings, runs.recipe
            FROM models
            LEFT JOIN models AS parents ON parents.id = models.parent_id
            LEFT JOIN training_runs AS trained ON trained.output_model_id = models.id
            LEFT JOIN rounds ON rounds.id = trained.round_id
            LEFT JOIN runs ON runs.id = rounds.run_id
            ORDER BY models.id
        """)
    ).all()


def _scores(connection: Connection) -> dict[int, list[Score]]:
    """By policy the newest held-out accuracy on each dataset."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT ON (rounds.model_id, datasets.name)
                rounds.model_id, datasets.name AS dataset, accuracy, standard_error
            FROM evaluations
            JOIN rounds ON rounds.id = evaluations.round_id
            JOIN datasets ON datasets.id = evaluations.dataset_id
            WHERE accuracy IS NOT NULL
            ORDER BY rounds.model_id, datasets.name, evaluations.finished_at DESC
        """)
    )
    found: dict[int, list[Score]] = defaultdict(list)
    for row in rows:
        found[row.model_id].append(Score(row.dataset, row.accuracy, row.standard_error or 0.0))
    return found
