"""Splits responses into steps by the rule of a recipe, a function of the user included."""

from collections.abc import Sequence
from contextlib import closing

from hsstar.domain.steps import Span, step_spans
from hsstar.engines.functions import UserFunction
from hsstar.recipe.steps import StepsSection


def split_responses(responses: Sequence[str], section: StepsSection) -> list[tuple[Span, ...]]:
    """Return where the steps of each response are; raise RequestError for one at which a function fails."""
    if section.function is None:
        return [step_spans(response, section.rule) for response in responses]
    with closing(_function(section.function, section.source)) as function:
        found = function.ask([{"response": response} for response in responses])
    return [tuple((start, end) for start, end in spans) for spans in found]


def check_splitting(section: StepsSection) -> None:
    """Import the function of a rule, if it has one; raise EngineError if it cannot be called."""
    if section.function is not None:
        with closing(_function(section.function, section.source)) as function:
            function.check()


def _function(function: str, source: str | None) -> UserFunction:
    return UserFunction("steps", function, source)
