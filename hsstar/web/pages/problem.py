"""One problem with all its samples beside each other, one sample alone, and why the verifier says so."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.commands.explanations import explain
from hsstar.domain.addresses import SampleAddress
from hsstar.domain.errors import NotFoundError
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.insights.problems import show_problem
from hsstar.insights.runs import find_run
from hsstar.insights.samples import find_sample
from hsstar.web.parameters import check_names
from hsstar.web.render import database_of, page
from hsstar.web.samples import by_round, shown

SAMPLES = 256
"""Of a problem on its page."""
CHARACTERS = 6_000
"""Of a response there; alone it is shown whole."""
_LONGEST_FORM = 2_000  # characters of what the verifier read
_LARGEST_ID = 2**63 - 1


def _problem(request: Request) -> Response:
    check_names(request, ())
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    problem_id: int = request.path_params["problem"]
    if problem_id > _LARGEST_ID:
        raise NotFoundError(f"run {run.name!r} has no problem {problem_id}")
    detail = show_problem(database, run.name, problem_id, at_most=SAMPLES, characters=CHARACTERS)
    groups = by_round(detail.samples)
    return page(
        request,
        "problem.html",
        run=run,
        detail=detail,
        groups=groups,
        pairs=[(shown(chosen), shown(rejected)) for chosen, rejected in detail.pairs],
    )


def _sample(request: Request) -> Response:
    check_names(request, ())
    database = database_of(request)
    address = SampleAddress.parse(request.path_params["address"])
    run = find_run(database, address.round.run)
    return page(request, "sample.html", run=run, entry=shown(find_sample(database, address)))


def _explanation(request: Request) -> Response:
    """Say how a verdict comes about, by the verifier of today; asked for only when somebody opens it."""
    check_names(request, ())
    address = SampleAddress.parse(request.path_params["address"])
    sample = find_sample(database_of(request), address)
    explanation = explain(database_of(request), request.app.state.verifiers, sample)
    cause = Cause(explanation["cause"])
    lines = {
        "extracted by": explanation.get("extraction"),
        "answer": explanation.get("answer"),
        "read as": explanation.get("answer_form"),
        "reference": sample.reference,
        "reference read as": explanation.get("reference_form"),
        "rule": explanation.get("rule", explanation.get("detail")),
        "verifier": explanation.get("verifier"),
        "says": f"{VERDICT_OF_CAUSE[cause] or 'no verdict'} ({cause.replace('_', ' ')})",
    }
    return page(
        request,
        "explanation.html",
        address=str(address),
        differs=sample.cause is not None and sample.cause != cause,
        stored=sample.cause,
        lines={name: _short(text) for name, text in lines.items() if text is not None},
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_FORM else f"{line[:_LONGEST_FORM]} … ({len(line):,} characters)"


ROUTES = [
    Route("/runs/{run}/problems/{problem:int}", _problem, name="problem"),
    Route("/samples/{address:path}", _sample, name="sample"),
    Route("/explanations/{address:path}", _explanation, name="explanation"),
]
