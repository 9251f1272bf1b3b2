"""Lineage of policies: parents, runs, data and scores."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from hsstar.checkpoints.card import Score
from hsstar.domain.rounding import NO_UPDATE, SampledUpdate, WeightUpdate
from hsstar.store.models import no_model


@dataclass(frozen=True, slots=True)
class LineageEntry:
    """A policy and its origin; fields on training are None for a policy that was registered."""

    name: str
    location: str
    parent: str | None
    run: str | None  # that trained it
    iteration: int | None
    objective: str | None
    items: int | None  # preference pairs, or samples for supervised fine-tuning, that it learned from
    steps: int | None  # optimiser steps
    settings: dict[str, Any] | None  # of the trainer
    recipe: dict[str, Any] | None  # of the run
    scores: Sequence[Score]
    update: SampledUpdate  # of its weights by the training; without rows if it was registered
    base: str | None  # location of the whole checkpoint that its adapter needs
    depth: int  # trainings between it and the first policy of its line


def lineage(connection: Connection, name: str | None = None) -> list[LineageEntry]:
    """Return every policy after its parent; with a name its ancestors, itself and its descendants.

    Raise NotFoundError if no policy has that name.
    """
    scores, updates = _scores(connection), sampled_updates(connection)
    rows = {row["name"]: row for row in _rows(connection)}
    if name is not None and name not in rows:
        raise no_model(name, rows)
    children: dict[str | None, list[str]] = defaultdict(list)
    for row in rows.values():
        children[row["parent"]].append(row["name"])
    line: set[str | None] = set()
    member = name
    while member is not None:
        line.add(member)
        member = rows[member]["parent"]

    def below(parent: str | None, depth: int, everything: bool) -> Iterator[LineageEntry]:
        for child in children[parent]:
            if everything or child in line:
                fields = dict(rows[child])
                model = fields["name"]
                update = updates.get(model, NO_UPDATE)
                yield LineageEntry(**fields, scores=scores[model], update=update, depth=depth)
                yield from below(child, depth + 1, everything or child == name)

    return list(below(None, 0, name is None))


def ancestry(connection: Connection, name: str) -> list[LineageEntry]:
    """Return the line of a policy, its first ancestor first and itself last; errors as in `lineage`."""
    entries = lineage(connection, name)
    return entries[: next(place for place, entry in enumerate(entries) if entry.name == name) + 1]


def sampled_updates(connection: Connection, run: str | None = None) -> dict[str, SampledUpdate]:
    """Return what rounding leaves of the training of each policy, of one run or of all, oldest first."""
    rows = connection.execute(
        text("""
            SELECT models.name AS model, sampled_as, layer, format, weights, norm, changed, kept, cosine
            FROM training_runs
            JOIN layer_updates ON training_run_id = training_runs.id AND layer = 'all'
            JOIN models ON models.id = training_runs.output_model_id
            JOIN rounds ON rounds.id = training_runs.round_id
            JOIN runs ON runs.id = rounds.run_id
            WHERE CAST(:run AS text) IS NULL OR runs.name = :run
            ORDER BY models.id, format
        """),
        {"run": run},
    )
    updates: dict[str, SampledUpdate] = {}
    for row in rows.mappings():
        figures = dict(row)
        model, sampled_as = figures.pop("model"), figures.pop("sampled_as")
        earlier = updates[model].updates if model in updates else ()
        updates[model] = SampledUpdate(sampled_as, (*earlier, WeightUpdate(**figures)))
    return updates


def _rows(connection: Connection) -> Sequence[RowMapping]:
    rows = connection.execute(
        text("""
            SELECT models.name, models.location, models.base, parents.name AS parent, runs.name AS run,
                rounds.number AS iteration, trained.objective, trained.pairs AS items, trained.steps,
                trained.settings, runs.recipe
            FROM models
            LEFT JOIN models AS parents ON parents.id = models.parent_id
            LEFT JOIN training_runs AS trained ON trained.output_model_id = models.id
            LEFT JOIN rounds ON rounds.id = trained.round_id
            LEFT JOIN runs ON runs.id = rounds.run_id
            ORDER BY models.id
        """)
    )
    return rows.mappings().all()


def _scores(connection: Connection) -> dict[str, list[Score]]:
    rows = connection.execute(
        text("""
            SELECT DISTINCT ON (rounds.model_id, datasets.name)
                models.name AS model, datasets.name AS dataset, accuracy, standard_error
            FROM evaluations
            JOIN rounds ON rounds.id = evaluations.round_id
            JOIN models ON models.id = rounds.model_id
            JOIN datasets ON datasets.id = evaluations.dataset_id
            WHERE accuracy IS NOT NULL
            ORDER BY rounds.model_id, datasets.name, evaluations.finished_at DESC
        """)
    )
    scores: dict[str, list[Score]] = defaultdict(list)
    for row in rows:
        scores[row.model].append(Score(row.dataset, row.accuracy, row.standard_error or 0.0))
    return scores
