"""Selections over the public views: conditions become one statement, whose values are literals.

They are literals because COPY, by which rows reach Arrow, takes no parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from psycopg import sql

from hsstar.store.database import read_statement

Relation = Literal[
    "sample_facts",
    "samples_with_texts",
    "problem_statistics",
    "problems_with_texts",
    "pairs_with_texts",
    "iteration_statistics",
    "evaluation_results",
    "budget_ledger",
    "problem_lifelines",
    "response_lengths",
    "training_curves",
    "verdict_history",
    "weight_updates",
]
"""A public view, or a file of `store/sql/` that adds texts to one."""

Value = str | int | bool | None
Conditions = Mapping[str, Sequence[Value]]
"""The values that a column may have; None among them means null."""

_FILES: dict[Relation, str] = {
    "samples_with_texts": read_statement("samples_with_texts"),
    "problems_with_texts": read_statement("problems_with_texts"),
    "pairs_with_texts": read_statement("pairs_with_texts"),
}
_ORDER: dict[Relation, tuple[str, ...]] = {
    "sample_facts": ("iteration", "problem_id", "slot"),
    "samples_with_texts": ("iteration", "problem_id", "slot"),
    "problem_statistics": ("iteration", "problem_id"),
    "problems_with_texts": ("iteration", "problem_id"),
    "pairs_with_texts": ("iteration", "problem_id", "chosen_slot"),
    "iteration_statistics": ("iteration",),
    "evaluation_results": ("iteration", "benchmark", "round_id"),
    "budget_ledger": ("iteration", "problem_id", "slot"),
    "problem_lifelines": ("measure", "problem_id"),
    "response_lengths": ("iteration", "difficulty"),
    "training_curves": ("iteration", "step"),
    "verdict_history": ("measure", "iteration", "problem_id", "slot", "judged_at"),
    "weight_updates": ("iteration", "layer", "format"),
}
"""What sorts the rows of a relation by their addresses."""


def compose(
    relation: Relation,
    conditions: Conditions,
    columns: Sequence[str] = (),
    *,
    limit: int | None = None,
    ordered: bool = False,
) -> str:
    """Return the statement of a selection; no columns mean all of them.

    With `ordered` the rows come by address; a limit takes the first ones in that order.
    """
    parts = [
        sql.SQL("SELECT {} FROM {} AS selected").format(_columns(columns), _source(relation)),
        *([sql.SQL("WHERE {}").format(_where(conditions))] if conditions else []),
        *([sql.SQL("ORDER BY {}").format(_names(_ORDER[relation]))] if ordered or limit is not None else []),
        *([sql.SQL("LIMIT {}").format(sql.Literal(limit))] if limit is not None else []),
    ]
    return sql.SQL(" ").join(parts).as_string()


def _source(relation: Relation) -> sql.Composable:
    file = _FILES.get(relation)
    return sql.Identifier(relation) if file is None else sql.SQL(f"({file})")


def _columns(columns: Sequence[str]) -> sql.Composable:
    return _names(columns) if columns else sql.SQL("*")


def _names(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _where(conditions: Conditions) -> sql.Composed:
    return sql.SQL(" AND ").join(_among(column, values) for column, values in conditions.items())


def _among(column: str, values: Sequence[Value]) -> sql.Composable:
    """Compare a column with values; none at all let nothing through."""
    name = sql.Identifier(column)
    known = [sql.Literal(value) for value in values if value is not None]
    tests: list[sql.Composable] = []
    if known:
        tests.append(sql.SQL("{} IN ({})").format(name, sql.SQL(", ").join(known)))
    if None in values:
        tests.append(sql.SQL("{} IS NULL").format(name))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(tests)) if tests else sql.SQL("false")
