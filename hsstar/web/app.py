"""The application: pages, guards, and how errors look."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hsstar.domain.errors import BadInputError, ConflictError, DatabaseError, NotFoundError
from hsstar.store.database import Database, Limits
from hsstar.verifier.kinds import make_verifier
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers
from hsstar.web import live
from hsstar.web.access import LOCAL_NAMES, Door, Guard, SecureHeaders
from hsstar.web.live import Pulse
from hsstar.web.pages import allocation, compare, metrics, problem, problems, run, runs, sql, workers
from hsstar.web.render import page

STATEMENT_SECONDS = 20
"""For one statement of a page."""


def make_app(url: str, names: Sequence[str] = LOCAL_NAMES, door: Door | None = None) -> Starlette:
    """Return the application over the database of a URL.

    Only requests to a host of `names` are answered; with a door only browsers that came in by it.
    """
    entrance = [] if door is None else [
        Route("/enter", door.show, methods=["GET"]),
        Route("/enter", door.enter, methods=["POST"]),
    ]  # fmt: skip
    app = Starlette(
        routes=[
            *runs.ROUTES,
            *run.ROUTES,
            *problems.ROUTES,
            *problem.ROUTES,
            *compare.ROUTES,
            *allocation.ROUTES,
            *workers.ROUTES,
            *sql.ROUTES,
            *metrics.ROUTES,
            *live.ROUTES,
            *entrance,
            Mount("/static", StaticFiles(packages=[("hsstar.web", "static")]), name="static"),
        ],
        middleware=[
            Middleware(SecureHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*names], www_redirect=False),
            Middleware(Guard, door=door),
        ],
        exception_handlers={
            HTTPException: _refused,
            NotFoundError: _not_found,
            BadInputError: _bad_input,
            ConflictError: _bad_input,
            DatabaseError: _away,
        },
    )
    limits = Limits(statement=STATEMENT_SECONDS, lock=2.0, idle=60.0)
    app.state.database = Database(url, limits, read_only=True)
    app.state.queries = Database(url, limits)
    # their processes start when somebody asks why
    app.state.verifiers = OpenVerifiers(lambda settings: make_verifier(settings, 1))
    app.state.pulse = Pulse(app.state.database)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by its registration, for the type checker
    if error.status_code == 404:
        return page(request, "missing.html", 404, reason="No page has this address.")
    return page(request, "refused.html", error.status_code, reason=error.detail)


async def _not_found(request: Request, error: Exception) -> Response:
    return page(request, "missing.html", 404, reason=str(error))


async def _bad_input(request: Request, error: Exception) -> Response:
    return page(request, "refused.html", 400, reason=str(error))


async def _away(request: Request, error: Exception) -> Response:
    response = page(request, "away.html", 503, reason=str(error))
    response.headers["retry-after"] = "5"
    return response
