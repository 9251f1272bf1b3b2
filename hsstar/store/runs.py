"""Runs: a recipe under a name, which never changes; and whether the run is held."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.run_quality import context_of
from hsstar.domain.suggestions import did_you_mean
from hsstar.store import notifications, rewards
from hsstar.store.database import execute_file, exists, lock_run, row_of, rows_of

if TYPE_CHECKING:
    from hsstar.recipe.recipe import Recipe

HoldKind = Literal["paused", "cancelled", "archived", "gate", "trained-nothing"]
"""Why a run is held: by a person, or by the conductor after what an iteration did."""


@dataclass(frozen=True)
class Run:
    """A run with its recipe and the models it starts from."""

    id: int
    name: str
    document: dict[str, Any]  # its recipe as it is stored, with every default
    model_id: int
    created_at: datetime
    first_iteration: int  # of its own; a fork shares those before it
    held: HoldKind | None  # None: it is active
    held_reason: str | None  # a sentence for people

    @cached_property
    def recipe(self) -> "Recipe":
        """Its recipe. Reading one takes as long as connecting; what shows progress needs none."""
        from hsstar.recipe.recipe import parse_recipe

        return parse_recipe(self.document, f"run {self.name}")

    @property
    def objective(self) -> str:
        """What its policies are trained by."""
        return str(self.document["training"]["objective"])

    def context(self, of_model: int | None) -> int | None:
        """Return how many tokens a prompt and its response have at most; None if that is not known."""
        return context_of(of_model, (self.document["policy"]["vllm"] or {}).get("max_model_len"))

    @property
    def forked_from(self) -> str | None:
        """The run that it was forked from, and the first iteration of its own; None if it is no fork."""
        fork = self.recipe.fork
        return None if fork is None else f"{fork.run}, iteration {fork.iteration}"

    @property
    def hold_line(self) -> str | None:
        """Why the run is held and how it continues; None if it is active."""
        if self.held is None:
            return None
        return (
            f"{self.name} is held ({self.held}): {self.held_reason}; "
            f"let it continue: hsstar runs resume {self.name}"
        )


@dataclass(frozen=True, slots=True)
class Fork:
    """What a new run shares with another."""

    run_id: int
    iteration: int  # its iterations below this one
    shares_evaluations: bool  # also those of the policies up to that of the iteration


_RUNS = """
    SELECT id, name, recipe AS document, model_id, created_at, coalesce(forked_at, 0) AS first_iteration,
        held, held_reason
    FROM runs
"""


def create_run(
    connection: Connection,
    name: str,
    recipe: "Recipe",
    model_id: int,
    reward_model_ids: Sequence[int] = (),
    source_ids: Sequence[int] = (),
    fork: Fork | None = None,
) -> Run:
    """Store a run with its whole recipe; raise ConflictError if the name is taken.

    `reward_model_ids` are those of the recipe's rewards (`scoring`), `source_ids` the policies of its
    sources, in order.
    """
    run_id = connection.execute(
        text(
            "INSERT INTO runs "
            "(name, recipe, seed, model_id, forked_from, forked_at, shares_evaluations) "
            "VALUES (:name, CAST(:recipe AS jsonb), :seed, :model_id, :forked_from, "
            ":forked_at, :shares_evaluations) ON CONFLICT (name) DO NOTHING RETURNING id"
        ),
        {
            "name": name,
            "recipe": json.dumps(recipe.document()),
            "seed": recipe.seed,
            "model_id": model_id,
            "forked_from": fork and fork.run_id,
            "forked_at": fork and fork.iteration,
            "shares_evaluations": fork is not None and fork.shares_evaluations,
        },
    ).scalar()
    if run_id is None:
        raise _taken(name)
    rewards.add_to_run(connection, run_id, [*zip(recipe.scoring, reward_model_ids, strict=True)])
    _add_sources(connection, run_id, recipe, source_ids)
    return get_run(connection, run_id)


def _add_sources(connection: Connection, run_id: int, recipe: "Recipe", model_ids: Sequence[int]) -> None:
    for source, model_id in zip(recipe.sources, model_ids, strict=True):
        connection.execute(
            text("""
                INSERT INTO run_sources (run_id, name, model_id, use, max_new_tokens)
                VALUES (:run_id, :name, :model_id, :use, :max_new_tokens)
            """),
            {
                "run_id": run_id,
                "name": source.name,
                "model_id": model_id,
                "use": source.use.value,
                "max_new_tokens": recipe.drawn_by(source).sampling.max_new_tokens,
            },
        )


def _taken(name: str) -> ConflictError:
    return ConflictError(f"there is already a run {name!r}; choose another name")


def get_run(connection: Connection, run_id: int) -> Run:
    """Return the run of this id."""
    return Run(**connection.execute(text(f"{_RUNS} WHERE id = :id"), {"id": run_id}).mappings().one())


def find_run(connection: Connection, name: str) -> Run:
    """Return the run of this name; raise NotFoundError, which names the existing runs, without it."""
    run = row_of(connection.execute(text(f"{_RUNS} WHERE name = :name"), {"name": name}), Run)
    if run is None:
        known = [other.name for other in list_runs(connection)]
        raise NotFoundError(
            f"there is no run {name!r} (runs: {', '.join(known) or 'none yet'}){did_you_mean(name, known)}"
        )
    return run


def list_runs(connection: Connection) -> list[Run]:
    """Return every run, oldest first."""
    return rows_of(connection.execute(text(f"{_RUNS} ORDER BY id")), Run)


def rename(connection: Connection, run_id: int, name: str) -> None:
    """Give a run another name, in recipes of its forks too; raise ConflictError if it is taken."""
    values = {"id": run_id, "name": name}
    if exists(connection, text("SELECT FROM runs WHERE name = :name"), values):
        raise _taken(name)
    connection.execute(
        text("""
            UPDATE runs SET name = :name, recipe = jsonb_set(recipe, '{name}', to_jsonb(CAST(:name AS text)))
            WHERE id = :id
        """),
        values,
    )
    connection.execute(
        text("""
            UPDATE runs SET recipe = jsonb_set(recipe, '{fork,run}', to_jsonb(CAST(:name AS text)))
            WHERE forked_from = :id
        """),
        values,
    )


def list_forks(connection: Connection, run_id: int) -> list[str]:
    """Return the names of the runs that were forked from a run, oldest first."""
    query = text("SELECT name FROM runs WHERE forked_from = :id ORDER BY id")
    return list(connection.execute(query, {"id": run_id}).scalars())


@dataclass(frozen=True, slots=True)
class RunContents:
    """What a run consists of, in numbers."""

    iterations: int
    evaluations: int
    samples: int
    pairs: int
    live_jobs: int


def count_contents(connection: Connection, run_id: int) -> RunContents:
    """Count what a run consists of."""
    (contents,) = rows_of(execute_file(connection, "run_contents", {"run_id": run_id}), RunContents)
    return contents


def delete(connection: Connection, run_id: int) -> None:
    """Delete a run with all its rounds, samples, pairs and jobs; no fork may share them."""
    connection.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run_id})


def keep_new_ones_out(connection: Connection) -> None:
    """Let no other transaction create, change or delete a run until this one ends."""
    connection.execute(text("LOCK TABLE runs IN SHARE MODE"))


def active_run_ids(connection: Connection) -> list[int]:
    """Runs that still have something to advance and are not held, oldest first."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT rounds.run_id
            FROM rounds
            JOIN round_states ON round_states.round_id = rounds.id
            JOIN runs ON runs.id = rounds.run_id
            WHERE state <> 'done' AND runs.held IS NULL
            ORDER BY 1
        """)
    )
    return list(rows.scalars())


def hold(connection: Connection, run_id: int, kind: HoldKind, reason: str) -> None:
    """Hold a run: from now on no work of it is planned, until `release_hold`. What its jobs do, they end.

    It replaces an earlier hold, and waits for a transaction that advances the run.
    """
    lock_run(connection, run_id)
    connection.execute(
        text("UPDATE runs SET held = :kind, held_reason = :reason WHERE id = :id"),
        {"id": run_id, "kind": kind, "reason": reason},
    )
    if kind != "archived":
        notifications.decide(connection, run_id, "stopped", f"{kind}: {reason}")


def release_hold(connection: Connection, run_id: int) -> bool:
    """Let a held run advance again; return False if it is not held."""
    lock_run(connection, run_id)
    look_again(connection, run_id)
    result = connection.execute(
        text("UPDATE runs SET held = NULL, held_reason = NULL WHERE id = :id AND held IS NOT NULL"),
        {"id": run_id},
    )
    return result.rowcount == 1


def look_again(connection: Connection, run_id: int) -> None:
    """Let sweeps look again at the rounds of a run, which may have waited for what changes now."""
    connection.execute(
        text("UPDATE rounds SET looked_at = NULL WHERE run_id = :id AND looked_at IS NOT NULL"),
        {"id": run_id},
    )


def is_held(connection: Connection, run_id: int) -> bool:
    """Tell whether a run is held, or gone; under its lock this stays so to the end of the transaction."""
    return not exists(connection, text("SELECT FROM runs WHERE id = :id AND held IS NULL"), {"id": run_id})
