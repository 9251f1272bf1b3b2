"""The problems of a run: a table of any size; the address says which of them, and in which order."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hsstar.domain.difficulty import Difficulty
from hsstar.domain.selections import CHANGES, SORTS, Disagreement
from hsstar.domain.verdict import Cause
from hsstar.insights.problems import PRESETS, Preset, find_preset, list_measures, list_problems
from hsstar.insights.runs import find_run
from hsstar.store.read.problems import ProblemFilter
from hsstar.web.parameters import check_names, choice_of, flag_of, share_of, text_of, whole_of
from hsstar.web.render import database_of, page

ROWS = 50
"""Of a page."""
_SHARES = ("accuracy_from", "accuracy_to", "quality_from", "quality_to", "pass_from", "pass_to")
_TOKENS = ("tokens_from", "tokens_to")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "level": tuple(map(str, Difficulty)),
    "cause": tuple(map(str, Cause)),
    "disagreement": get_args(Disagreement),
    "change": CHANGES,
}
_KNOWN = (
    *_CHOICES, *_SHARES, *_TOKENS, "text", "measure", "iteration", "sort", "descending", "after", "preset",
)  # fmt: skip
_PLACE = ("measure", "iteration")
"""What a preset does not say."""


def _problems(request: Request) -> Response:
    check_names(request, _KNOWN)
    if (clean := _clean(request)) is not None:
        return RedirectResponse(clean, 303)
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    measures = list_measures(database, run.name)
    values: dict[str, Any] = {
        "run": run, "measures": measures, "choices": _CHOICES, "page": None,
        "presets": _presets(request), "sort": "problem", "descending": False,
    }  # fmt: skip
    if not measures:
        return page(request, "problems.html", measure=None, **values)
    sort, descending = choice_of(request, "sort", SORTS) or "problem", flag_of(request, "descending")
    listed = list_problems(
        database,
        run.name,
        text_of(request, "measure"),
        _filter(request),
        iteration=whole_of(request, "iteration"),
        sort=sort,
        descending=descending,
        after=text_of(request, "after"),
        at_most=ROWS,
    )
    values |= {"page": listed, "sort": sort, "descending": descending}
    measure = next(each for each in measures if each.name == listed.measure)
    return page(request, "problems.html", measure=measure, **values)


def _filter(request: Request) -> ProblemFilter:
    chosen: dict[str, Any] = {name: choice_of(request, name, known) for name, known in _CHOICES.items()}
    shares: dict[str, Any] = {name: share_of(request, name) for name in _SHARES}
    shares |= {name: whole_of(request, name) for name in _TOKENS}
    return ProblemFilter(**chosen, **shares, text=text_of(request, "text"))


def _clean(request: Request) -> str | None:
    """Return the address without what a form leaves empty, and with what a preset stands for; else None."""
    given = {name: value for name, value in request.query_params.items() if value.strip()}
    if "preset" in given:
        given = _parameters(find_preset(given.pop("preset"))) | given
    if given == dict(request.query_params):
        return None
    return f"{request.url.path}?{urlencode(given)}" if given else request.url.path


def _parameters(preset: Preset) -> dict[str, str]:
    chosen = {name: str(value) for name, value in asdict(preset.filter).items() if value is not None}
    if preset.sort != "problem":
        chosen["sort"] = preset.sort
    return chosen | ({"descending": "1"} if preset.descending else {})


def _presets(request: Request) -> list[tuple[str, str, bool]]:
    """Return title and address of each preset, and whether this page is it."""
    place = {name: request.query_params[name] for name in _PLACE if name in request.query_params}
    here = {
        name: value for name, value in request.query_params.items() if name not in (*_PLACE, "after")
    }  # fmt: skip
    links = []
    for preset in PRESETS.values():
        chosen = _parameters(preset)
        query = urlencode(place | chosen)
        links.append(
            (preset.title, f"{request.url.path}?{query}" if query else request.url.path, here == chosen)
        )
    return links


ROUTES = [Route("/runs/{run}/problems", _problems, name="problems")]
