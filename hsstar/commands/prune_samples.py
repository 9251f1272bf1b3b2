"""Delete the texts of old samples; verdicts, rewards, answers, counts and pairs stay."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from hsstar.store import retention, runs
from hsstar.store.database import Database


@dataclass(frozen=True, slots=True)
class PrunedRound:
    """The texts that a round loses."""

    run: str
    round: str
    samples: int
    bytes: int  # of their text


def prune_samples(
    database: Database,
    before: datetime,
    keep: Collection[str],
    run: str | None = None,
    *,
    dry_run: bool,
) -> list[PrunedRound]:
    """Delete the texts of the rounds that were done before a moment, a transaction each; or only count them.

    Args:
        database: where the samples are.
        before: with its time zone.
        keep: `pairs`: the texts that were trained on; `correct`: those of correct samples.
        run: only its rounds.
        dry_run: delete nothing.
    """
    with database.begin() as connection:
        run_id = None if run is None else runs.find_run(connection, run).id
        prunable_rounds = retention.list_prunable(connection, before, run_id)
    pruned = []
    for prunable in prunable_rounds:
        prune = partial(
            retention.prune_texts,
            round_id=prunable.round_id,
            keep_pairs="pairs" in keep,
            keep_correct="correct" in keep,
            dry_run=dry_run,
        )
        lost = database.run(prune)
        if lost.samples:
            name = f"{prunable.kind} {prunable.number} {prunable.evaluation_key}".strip()
            pruned.append(PrunedRound(prunable.run, name, lost.samples, lost.bytes))
    return pruned
