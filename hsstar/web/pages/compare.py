"""Two policies, runs or evaluations on the same problems: the four cells, and texts side by side."""

from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.domain.addresses import RoundAddress, SampleAddress
from hsstar.domain.errors import BadInputError
from hsstar.insights.paired import Cell, PairedComparison, compare_rounds
from hsstar.insights.problems import Measure, list_measures, statements_of
from hsstar.insights.runs import find_run
from hsstar.insights.samples import find_sample, list_samples
from hsstar.store.database import Database
from hsstar.store.read.samples import Sample, SampleFilter
from hsstar.web.differences import mark_differences
from hsstar.web.parameters import check_names, choice_of, text_of, whole_of
from hsstar.web.render import database_of, page
from hsstar.web.samples import shown

ROWS = 50
"""Of a page of problems."""
COUPLES = 16
"""Pairs of texts on a page."""
CHARACTERS = 6_000
"""Of each of them; two samples alone are compared at more."""
_CHARACTERS_ALONE = 200_000
_LAST_PAGE = 10**9


def _compare(request: Request) -> Response:
    check_names(request, ("first", "second", "cell", "page"))
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    measures = list_measures(database, run.name)
    rounds = [str(RoundAddress(run.name, each.name, number)) for each in measures for number in each.numbers]
    given = [text_of(request, name) for name in ("first", "second")]
    first, second = given if any(given) else _usual(run.name, measures)
    values: dict[str, Any] = {
        "run": run, "rounds": rounds, "first": first, "second": second, "comparison": None, "reason": None,
    }  # fmt: skip
    if not (first and second):
        return page(request, "compare.html", **values)
    cell = choice_of(request, "cell", get_args(Cell))
    number = whole_of(request, "page", 1, _LAST_PAGE) or 1
    try:
        comparison = compare_rounds(database, RoundAddress.parse(first), RoundAddress.parse(second), cell)
    except BadInputError as error:
        status = 400 if any(given) else 200  # nobody asked for the usual two
        return page(request, "compare.html", status, **values | {"reason": str(error)})
    return page(
        request, "compare.html", cell=cell, number=number, **values | _listed(database, comparison, number)
    )


def _usual(run: str, measures: list[Measure]) -> tuple[str | None, str | None]:
    """Return the first and the last policy that were measured alike; iterations seldom share problems."""
    several = [each for each in measures if len(each.numbers) > 1]
    if not several:
        return None, None
    measure = next((each for each in several if each.name != "iteration"), several[0])
    numbers = (measure.numbers[0], measure.numbers[-1])
    one, other = (str(RoundAddress(run, measure.name, number)) for number in numbers)
    return one, other


def _listed(database: Database, comparison: PairedComparison, number: int) -> dict[str, Any]:
    rows = comparison.problems[(number - 1) * ROWS : number * ROWS]
    return {
        "comparison": comparison,
        "rows": rows,
        "statements": statements_of(database, [row.problem_id for row in rows]),
        "pages": max(1, -(-len(comparison.problems) // ROWS)),
    }


def _compare_problem(request: Request) -> Response:
    """Show the samples of both rounds for a problem, slot by slot."""
    check_names(request, ("first", "second"))
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    problem_id = request.path_params["problem"]
    rounds = [RoundAddress.parse(text_of(request, name) or "") for name in ("first", "second")]
    comparison = compare_rounds(database, rounds[0], rounds[1])
    places = [row.problem_id for row in comparison.problems]
    one, other = (_by_slot(database, address, problem_id) for address in rounds)
    slots = sorted(one.keys() & other.keys())
    place = places.index(problem_id) if problem_id in places else None
    return page(
        request,
        "compare_problem.html",
        run=run,
        comparison=comparison,
        problem_id=problem_id,
        row=None if place is None else comparison.problems[place],
        before=places[place - 1] if place else None,
        after=places[place + 1] if place is not None and place + 1 < len(places) else None,
        statement=statements_of(database, [problem_id], None).get(problem_id),
        couples=[_couple(one[slot], other[slot]) for slot in slots[:COUPLES]],
        more=max(0, len(slots) - COUPLES),
    )


def _by_slot(database: Database, address: RoundAddress, problem_id: int) -> dict[int, Sample]:
    wanted = SampleFilter(measure=address.measure, iteration=address.number, problem_id=problem_id)
    listed = list_samples(database, address.run, wanted, at_most=1_000, characters=CHARACTERS)
    return {sample.slot: sample for sample in listed.samples}


def _texts(request: Request) -> Response:
    """Show any two samples side by side: those of a pair, of two policies, of two slots."""
    check_names(request, ("first", "second"))
    database = database_of(request)
    first, second = (SampleAddress.parse(text_of(request, name) or "") for name in ("first", "second"))
    run = find_run(database, first.round.run)
    samples = [find_sample(database, address) for address in (first, second)]
    return page(
        request,
        "texts.html",
        run=run,
        addresses=[str(first), str(second)],
        couple=_couple(*samples),
        same_problem=samples[0].problem_id == samples[1].problem_id,
    )


def _couple(first: Sample, second: Sample) -> dict[str, Any]:
    texts = [(sample.response or "")[:_CHARACTERS_ALONE] for sample in (first, second)]
    one, other, compared = mark_differences(*texts)
    return {
        "sides": [(shown(first), one), (shown(second), other)],
        "same": first.response == second.response,
        "compared": compared,
        "cut": any(
            (sample.characters or 0) > len(text) for sample, text in zip((first, second), texts, strict=True)
        ),
    }


ROUTES = [
    Route("/runs/{run}/compare", _compare, name="compare"),
    Route("/runs/{run}/compare/{problem:int}", _compare_problem, name="compare_problem"),
    Route("/texts", _texts, name="texts"),
]
