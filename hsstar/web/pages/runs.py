"""The list of runs."""

from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.insights.run_list import Group, RunCard, list_cards
from hsstar.web.charts import Plot, plot
from hsstar.web.render import database_of, page

GROUPS: tuple[Group, ...] = get_args(Group)
_SHOWN_AT_FIRST = ("active", "finished", "paused", "failed", "evaluations")


def _runs(request: Request) -> Response:
    return page(request, "runs.html", **_values(request))


def _live(request: Request) -> Response:
    return page(request, "runs_live.html", **_values(request))


def _values(request: Request) -> dict[str, Any]:
    cards = list_cards(database_of(request))
    chosen = request.query_params.get("show")
    shown = (chosen,) if chosen in GROUPS else _SHOWN_AT_FIRST
    listed = [card for card in cards if card.group in shown]
    return {
        "chosen": chosen,
        "counts": {group: sum(card.group == group for card in cards) for group in GROUPS},
        "training": [(card, _spark(card)) for card in listed if card.group != "evaluations"],
        "evaluations": [card for card in listed if card.group == "evaluations"],
    }


def _spark(card: RunCard) -> Plot | None:
    accuracies = card.figures.accuracies
    return plot({"accuracy": list(enumerate(accuracies))}) if len(accuracies) > 1 else None


ROUTES = [Route("/", _runs, name="runs"), Route("/live", _live, name="runs_live")]
