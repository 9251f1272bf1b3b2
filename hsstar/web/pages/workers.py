"""The workers, and the queues that they serve."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.insights.progress import STILL_SECONDS
from hsstar.insights.workers import list_workers, open_queues, token_rates
from hsstar.web.render import database_of, page


def _workers(request: Request) -> Response:
    return page(request, "workers.html", **_values(request))


def _live(request: Request) -> Response:
    return page(request, "workers_live.html", **_values(request))


def _values(request: Request) -> dict[str, Any]:
    database = database_of(request)
    everyone = "stopped" in request.query_params
    return {
        "everyone": everyone,
        "workers": list_workers(database, stopped=everyone),
        "queues": open_queues(database),
        "rates": token_rates(database),
        "still_limit": STILL_SECONDS,
    }


ROUTES = [
    Route("/workers", _workers, name="workers"),
    Route("/workers/live", _live, name="workers_live"),
]
