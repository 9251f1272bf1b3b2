"""Templates: how values become text. All text is escaped, and what would steer a display is made visible."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from hsstar.domain.text import duration, visible
from hsstar.store.database import Database

NAVIGATION = (("Runs", "runs"), ("Workers", "workers"), ("SQL", "sql"))
"""Heading and route of the pages that concern no single run."""
RUN_NAVIGATION = (
    ("Run", "run"), ("Problems", "problems"), ("Compare", "compare"), ("Allocation", "allocation"),
)  # fmt: skip
"""Heading and route of the pages of a run; each route takes `run`, its name."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Says that pages become files: of which run, when, and what their browser may load."""

    run: str
    at: datetime
    policy: str


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Render a template."""
    return _templates().TemplateResponse(request, template, values, status_code=status)


def database_of(request: Request) -> Database:
    """Return the database that the pages read."""
    database: Database = request.app.state.database
    return database


def exported_of(request: Request) -> Exported | None:
    """Return what the application exports, if it does."""
    exported: Exported | None = request.app.state.exported
    return exported


def address(request: Request, **changes: object) -> str:
    """Return the address of this page with other query parameters; None leaves one out."""
    parameters = dict(request.query_params) | changes
    query = urlencode({key: value for key, value in parameters.items() if value is not None})
    return f"{request.url.path}?{query}" if query else request.url.path


@cache
def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=PackageLoader("hsstar.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": _when, "count": count, "decimals": decimals, "duration": duration, "roughly": roughly,
        "share": share, "iso": _iso,
    }  # fmt: skip
    environment.globals |= {
        "form_key": uuid4, "navigation": NAVIGATION, "run_navigation": RUN_NAVIGATION, "path": _path,
        "percent": percent, "static": _static,
        "with_query": pass_context(lambda context, **changes: address(context["request"], **changes)),
    }  # fmt: skip
    return Jinja2Templates(env=environment, context_processors=[_modes])


def _shown(value: Any) -> Any:
    """Make text visible and absence a dash; Jinja escapes what this returns."""
    if value is None:
        return "–"
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


@pass_context
def _path(context: Context, name: str, **parameters: object) -> str:
    """Return the path of a route."""
    return str(context["request"].app.url_path_for(name, **parameters))


def _modes(request: Request) -> dict[str, Any]:
    """Return what the application was started for."""
    return {"exported": exported_of(request), "actions": request.app.state.actions}


@cache
def _static(name: str) -> str:
    """Return the path of a file of `static/`; it changes with the content, so browsers may keep it."""
    content = resources.files("hsstar.web").joinpath("static", name).read_bytes()
    return f"/static/{name}?{hashlib.sha256(content).hexdigest()[:12]}"


def count(number: float | None) -> str | None:
    """Return a whole number with thousands apart."""
    return None if number is None else f"{number:,.0f}"


def decimals(number: float | None, places: int = 3) -> str | None:
    """Return a number with so many decimals."""
    return None if number is None else f"{number:,.{places}f}"


def share(number: float | None, places: int = 1) -> str | None:
    """Return a share as a percentage."""
    return None if number is None else f"{number:.{places}%}"


def percent(number: float) -> str:
    """Return a share as an SVG length."""
    return f"{100 * min(1.0, max(0.0, number)):.3f}%"


def roughly(seconds: float) -> str:
    """Return seconds as a person estimates them: in one unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def ago(moment: datetime | None) -> str | None:
    """Return how long ago a moment was, in its largest unit."""
    if moment is None:
        return None
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


@pass_context
def _when(context: Context, moment: datetime | None) -> str | None:
    """Return how long ago a moment was; in a file, which is read later, the moment."""
    return _iso(moment) if context["exported"] else ago(moment)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
