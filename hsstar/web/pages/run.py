"""One run."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.insights.runs import find_run
from hsstar.web.render import database_of, page


def _run(request: Request) -> Response:
    run = find_run(database_of(request), request.path_params["run"])
    return page(request, "run.html", run=run)


ROUTES = [Route("/runs/{run}", _run, name="run")]
