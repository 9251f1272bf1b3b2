"""Queries of users: a box, the views beside it, a table, a chart, a file."""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hsstar.domain.errors import BadInputError
from hsstar.insights.views import list_views
from hsstar.store.database import Database
from hsstar.store.read.sql import querying
from hsstar.web.charts import Plot, Series, plot
from hsstar.web.render import database_of, page

SECONDS = 30
"""For one query."""
_MOST_ROWS = 1_000  # of a table; a file has all
_MOST_CHARACTERS = 2_000  # of a cell
_MOST_IN_ALL = 4_000_000  # characters of all cells, before they are cut
_MOST_CHARTS = 6
_EXAMPLE = (
    "SELECT iteration, boundary, pairs, correct_share\nFROM iteration_statistics\nORDER BY run, iteration"
)


def _sql(request: Request) -> Response:
    query = request.query_params.get("q", "").strip()
    values: dict[str, Any] = {"columns": [], "rows": [], "more": False, "charts": [], "error": None}
    foreign = request.headers.get("sec-fetch-site") == "cross-site"
    if query and not foreign:
        try:
            values |= _answer(_queries(request), query)
        except BadInputError as error:
            values["error"] = str(error)
    return page(
        request,
        "sql.html",
        400 if values["error"] else 200,
        query=query or _EXAMPLE,
        asked=bool(query),
        foreign=foreign and bool(query),
        views=list_views(database_of(request)),
        seconds=SECONDS,
        **values,
    )


def _queries(request: Request) -> Database:
    """Return the database for queries of users, which has guards of its own."""
    database: Database = request.app.state.queries
    return database


def _answer(database: Database, query: str) -> dict[str, Any]:
    with querying(database, query, SECONDS) as (columns, rows):
        shown = [*_first_rows(rows)]
        more = next(rows, None) is not None
    numeric = [place for place in range(len(columns)) if _is_numeric(shown, place)]
    return {
        "columns": [(name, place in numeric) for place, name in enumerate(columns)],
        "rows": [[_cell(value) for value in row] for row in shown],
        "more": more,
        "charts": _charts(columns, shown, numeric),
    }


def _first_rows(rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Yield what one page can hold."""
    room = _MOST_IN_ALL
    for row in islice(rows, _MOST_ROWS):
        yield row
        room -= sum(len(value) for value in row if isinstance(value, str))
        if room < 0:
            return


def _is_numeric(rows: Sequence[Sequence[Any]], place: int) -> bool:
    values = [row[place] for row in rows if row[place] is not None]
    return bool(values) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in values
    )


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value.isoformat(" ", "seconds") if isinstance(value, datetime) else str(value)
    return (
        text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} … ({len(text):,} characters)"
    )


def _charts(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[int]
) -> list[tuple[str, Plot]]:
    """Return a line for each numeric column over the first of them, or over the number of the row."""
    if len(rows) < 2 or not numeric:
        return []
    across, *lines = numeric if len(numeric) > 1 else (None, numeric[0])
    charts = []
    for place in lines[:_MOST_CHARTS]:
        points: Series = [
            (number if across is None else _number(row[across]) or 0.0, _number(row[place]))
            for number, row in enumerate(rows)
        ]
        ordered = sorted(points, key=lambda point: point[0])
        drawn = plot({"series-0": ordered}, {"series-0": columns[place]})
        if drawn is not None:
            charts.append((f"{columns[place]} over {'rows' if across is None else columns[across]}", drawn))
    return charts


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _csv(request: Request) -> Response:
    """Return all rows as a file, as they are read."""
    lines = _lines(_queries(request), request.query_params.get("q", ""))
    first = next(lines)  # errors of the statement come before the first row
    headers = {"content-disposition": 'attachment; filename="query.csv"'}

    def content() -> Iterator[str]:
        yield first
        yield from lines

    return StreamingResponse(content(), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(database: Database, query: str) -> Iterator[str]:
    with querying(database, query, SECONDS) as (columns, rows):
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow(columns)
        for row in rows:
            yield _taken(buffer)
            writer.writerow(row)
        yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


ROUTES = [Route("/sql", _sql, name="sql"), Route("/sql.csv", _csv, name="sql_csv")]
