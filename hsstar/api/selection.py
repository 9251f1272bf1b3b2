"""Rows that are read when they are asked for: as dictionaries, Arrow, pandas or polars."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.suggestions import did_you_mean
from hsstar.store.database import Database
from hsstar.store.read.arrow import record_batches
from hsstar.store.read.selections import Conditions, Relation, compose
from hsstar.store.read.sql import check_query, querying

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

SELECTION_SECONDS = 600


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """The rows of one query, which runs anew, read-only, each time they are asked for.

    Null and NaN stay apart in every form. Read rows as you go with `for row in rows`, or `to_arrow_batches`:
    memory stays bounded. `timeout_seconds` counts the time in which you read, too.
    """

    database: Database
    query: str
    timeout_seconds: int
    trusted: bool = False  # hsstar composed it

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.query}>"

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order; Postgres parses the query and does not run it."""
        checked = check_query(self.database, self.query, self.timeout_seconds, trusted=self.trusted)
        return checked.columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield a dictionary per row, as they are read."""
        reading = querying(self.database, self.query, self.timeout_seconds, trusted=self.trusted)
        with reading as (columns, rows):
            for row in rows:
                yield dict(zip(columns, row, strict=True))

    def rows(self) -> list[dict[str, Any]]:
        """Return a dictionary per row."""
        return list(self)

    def to_arrow_batches(self) -> "pyarrow.RecordBatchReader":
        """Return a reader of record batches of up to 16 MB, for tables larger than memory."""
        return record_batches(self.database, self.query, self.timeout_seconds, trusted=self.trusted)

    def to_arrow(self) -> "pyarrow.Table":
        """Return an Arrow table; raise MissingDependencyError without the extra `arrow`."""
        return self.to_arrow_batches().read_all()

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a data frame with Arrow's types, so that whole numbers stay whole beside nulls.

        Raise MissingDependencyError without the extra `notebook`.
        """
        pandas = _module("pandas")
        return self.to_arrow().to_pandas(types_mapper=pandas.ArrowDtype)

    def to_polars(self) -> "polars.DataFrame":
        """Return a data frame of polars; raise MissingDependencyError without the extra `notebook`."""
        polars = _module("polars")
        return polars.DataFrame(self.to_arrow())


@dataclass(frozen=True, slots=True, repr=False)
class Selection(Rows):
    """Rows of a public view that meet some conditions; narrow them by columns and number."""

    relation: Relation = "sample_facts"
    conditions: Conditions | None = None
    selected: tuple[str, ...] = ()
    first: int | None = None
    in_order: bool = False

    @classmethod
    def of(cls, database: Database, relation: Relation, conditions: Conditions) -> "Selection":
        """Return all rows of a relation that meet the conditions."""
        selection = cls(database, "", SELECTION_SECONDS, True, relation, conditions)
        return selection._with()

    def select(self, *columns: str) -> "Selection":
        """Return the same rows with these columns only; raise BadInputError for one that is unknown."""
        known = self.columns
        for column in columns:
            if column not in known:
                raise BadInputError(
                    f"there is no column {column!r}{did_you_mean(column, known)}; columns: {', '.join(known)}"
                )
        return self._with(selected=columns)

    def limit(self, count: int) -> "Selection":
        """Return the first rows by iteration, problem and slot, or what else orders the view."""
        if count < 0:
            raise BadInputError(f"the limit {count} is below 0")
        return self._with(first=count)

    def ordered(self) -> "Selection":
        """Return the same rows in the order of `limit`; without it they come in any order."""
        return self._with(in_order=True)

    def _with(self, **changes: Any) -> Self:
        new = replace(self, **changes)
        return replace(
            new,
            query=compose(
                new.relation, new.conditions or {}, new.selected, limit=new.first, ordered=new.in_order
            ),
        )


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise MissingDependencyError(
            f'{name} is not installed: install it with pip install "hsstar[notebook]"'
        ) from None
