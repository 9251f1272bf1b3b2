"""Splits responses into steps by the rule of a recipe, a function of the user included."""

from collections.abc import Sequence

from hsstar.domain.steps import Span, step_spans
from hsstar.recipe.steps import StepsSection


def split_responses(responses: Sequence[str], section: StepsSection) -> list[tuple[Span, ...]]:
    """Return where the steps of each response are."""
    return [step_spans(response, section.rule) for response in responses]
