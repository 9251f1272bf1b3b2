"""The workers, and the queues that they serve."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.insights.workers import list_workers
from hsstar.web.render import database_of, page


def _workers(request: Request) -> Response:
    return page(request, "workers.html", workers=list_workers(database_of(request)))


ROUTES = [Route("/workers", _workers, name="workers")]
