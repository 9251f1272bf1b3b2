"""What is said of training problems that overlap a benchmark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsstar.store.contamination import OverlapCount


def overlap_lines(found: "Sequence[OverlapCount]", *, excluded: bool = False) -> list[str]:
    """A line per pair of datasets, and one that says what is done with these problems; empty without any."""
    from hsstar.domain.contamination import RUN_OF_WORDS

    lines = [
        f"{each.exact + each.runs} of {each.problems} problems of {each.dataset} overlap {each.against}: "
        f"{each.exact} equal statements, {each.runs} with {RUN_OF_WORDS} words in a row"
        for each in found
    ]
    if not lines:
        return []
    if excluded:
        return [*lines, "iterations do not take them (problems.overlaps = 'exclude')"]
    return [
        *lines,
        "iterations take them all the same, unless the recipe says problems.overlaps = 'exclude'; "
        "which they are: hsstar sql 'table problem_overlaps'",
    ]
