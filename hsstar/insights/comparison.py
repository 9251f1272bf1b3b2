"""What two runs differ in: recipe, data and figures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from hsstar.insights.iterations import IterationSummary, load_iterations
from hsstar.store import evaluations, models, rewards, rounds, runs
from hsstar.store.database import Database
from hsstar.store.read import comparison
from hsstar.store.runs import Run

_OF_ITERATION = (
    "problems", "drawn", "correct", "cut", "no_answer", "inlier", "boundary", "outlier", "pairs",
    "distinct_pairs", "problems_with_pair", "rows_trained", "optimiser_steps", "tokens",
)  # fmt: skip
"""The figures of an iteration that follow from recipe and data, not from the machine."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that two runs do not have in common; None where one lacks it."""

    part: Literal["recipe", "data", "figures"]
    name: str
    first: Any
    second: Any


def compare_runs(database: Database, first: str, second: str) -> list[Difference]:
    """Return what two runs differ in, the recipe first; raise NotFoundError without one of them."""
    with database.begin() as connection:
        one, other = (runs.find_run(connection, name) for name in (first, second))
        data = [*_weights(connection, one, other), *_slices(connection, one, other)]
        measured = [_accuracies(connection, run) for run in (one, other)]
    recipes = [_flat(run.recipe.document() | {"name": None}) for run in (one, other)]
    figures = [*_iterations(load_iterations(database, first), load_iterations(database, second))]
    return [
        *_differences("recipe", *recipes),
        *data,
        *figures,
        *_differences("figures", *measured),
    ]


def _differences(
    part: Literal["recipe", "data", "figures"], first: dict[str, Any], second: dict[str, Any]
) -> Iterator[Difference]:
    for key in dict.fromkeys((*first, *second)):
        if first.get(key) != second.get(key):
            yield Difference(part, key, first.get(key), second.get(key))


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a recipe by dotted key."""
    values: dict[str, Any] = {}
    for key, value in document.items():
        values |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def _weights(connection: Connection, one: Run, other: Run) -> Iterator[Difference]:
    """Compare the weights that the runs begin with: a name may stand for others by now."""
    begins = sorted({one.first_iteration, other.first_iteration})
    known = {model.name: model for model in models.list_models(connection)}

    def weights(run: Run) -> dict[str, Any]:
        given = [
            (reward.name, models.get_reward_model(connection, reward.reward_model_id))
            for reward in rewards.list_of_run(connection, run.id)
        ]
        names = dict(rounds.list_policies(connection, run.id))
        policies = {number: known[names[number]] for number in begins if number in names}
        return {
            **{f"policy M_{number}": f"{of.name} ({of.fingerprint[:8]})" for number, of in policies.items()},
            **{
                "reward model" if name == "reward" else f"reward {name}": f"{of.name} ({of.fingerprint[:8]})"
                for name, of in given
            },
        }

    return _differences("data", weights(one), weights(other))


def _slices(connection: Connection, one: Run, other: Run) -> Iterator[Difference]:
    for row in comparison.compare_slices(connection, one.id, other.id):
        if not row.first == row.second == row.both:
            name = f"problems of iteration {row.number} ({row.both} in common)"
            yield Difference("data", name, row.first, row.second)


def _iterations(first: list[IterationSummary], second: list[IterationSummary]) -> Iterator[Difference]:
    numbers = sorted({row.iteration for row in (*first, *second)})
    by_number = [{row.iteration: row for row in rows} for rows in (first, second)]
    for number, name in ((number, name) for number in numbers for name in _OF_ITERATION):
        one, other = (getattr(rows.get(number), name, None) for rows in by_number)
        if one != other:
            yield Difference("figures", f"iteration {number}: {name.replace('_', ' ')}", one, other)


def _accuracies(connection: Connection, run: Run) -> dict[str, Any]:
    return {
        f"M_{row['iteration']}: {row['benchmark']}": row["accuracy"]
        for row in evaluations.results(connection, run.name)
        if row["accuracy"] is not None
    }
