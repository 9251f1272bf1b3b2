"""Lines on training problems that overlap a benchmark."""

from collections.abc import Sequence

from hsstar.domain.contamination import RUN_OF_WORDS, OverlapCount


def overlap_lines(overlaps: Sequence[OverlapCount], *, excluded: bool = False) -> list[str]:
    """Return a line per pair of datasets and one on what happens to these problems; empty without any."""
    lines = [
        f"{count.exact + count.runs} of {count.problems} problems of {count.dataset} "
        f"overlap {count.against}: {count.exact} equal statements, "
        f"{count.runs} with {RUN_OF_WORDS} words in a row"
        for count in overlaps
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
