"""Step labels from continuations: the soft estimation of Math-Shepherd (arXiv 2312.08935)."""

from collections.abc import Mapping, Sequence

Label = float | None
"""The share in [0, 1] of the ways on from a step that are correct; None if no verdict tells."""


def first_with_prefix(prefixes: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return every different prefix of a problem's responses with the place of the first that has it.

    `prefixes` are those of each response. The result is in their order, and of the steps within one.
    """
    places: dict[str, int] = {}
    for place, of_response in enumerate(prefixes):
        for prefix in of_response:
            places.setdefault(prefix, place)
    return places


def share(correct: int, incorrect: int) -> Label:
    """Return the share of the continuations with a verdict that are correct."""
    return correct / (correct + incorrect) if correct + incorrect else None


def soft_labels(prefixes: Sequence[str], correct: bool, shares: Mapping[str, Label]) -> tuple[Label, ...]:
    """Return a label for each step: the share of its prefix, and for the last step the verdict itself."""
    return (*(shares.get(prefix) for prefix in prefixes), float(correct))
