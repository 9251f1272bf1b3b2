"""Queries of users: a box, the documentation of the views beside it, a table, a chart, a file."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.web.render import page


def _sql(request: Request) -> Response:
    return page(request, "sql.html", query=request.query_params.get("q", ""))


ROUTES = [Route("/sql", _sql, name="sql")]
