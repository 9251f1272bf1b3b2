"""Overlap of training problems with benchmarks: the index against a plain comparison of all pairs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsstar.domain.contamination import RUN_OF_WORDS, Overlap, OverlapIndex, OverlapKind, marks_of

SENTENCE = "In how many ways can seven people sit at a round table if two of them insist on adjoining seats?"


WORDS = [f"w{number}" for number in range(RUN_OF_WORDS)]


@pytest.mark.parametrize(
    ("statement", "benchmark", "expected"),
    [
        ("2+3=?", "2+3=?", OverlapKind.EXACT),
        ("Find $x$.", "find x .", OverlapKind.EXACT),
        ("2+3=?", "2-3=?", None),  # signs count in short statements
        (f"Note: {SENTENCE} Explain.", SENTENCE, OverlapKind.RUN),
        (SENTENCE.replace(" ", "  ").upper(), SENTENCE, OverlapKind.EXACT),
        (SENTENCE.replace("seven", "eight"), SENTENCE, OverlapKind.RUN),  # the rest is long enough
        (SENTENCE.replace("table", "desk"), SENTENCE, None),  # ten and nine words are too few
        (" ".join(["x", *WORDS, "y"]), " ".join(["before", *WORDS, "after"]), OverlapKind.RUN),
        (" ".join(["x", *WORDS[1:], "y"]), " ".join(["before", *WORDS, "after"]), None),
        (r"Let $\frac{a}{b}$ be", r"Let $\frac ab$ be", None),
        ("ﬁnd ｘ", "find x", OverlapKind.EXACT),
        ("", "x", None),
    ],
)
def test_overlaps_by_hand(statement: str, benchmark: str, expected: OverlapKind | None) -> None:
    found = OverlapIndex(["something else", benchmark]).find(marks_of(statement))
    assert found == (None if expected is None else Overlap(1, expected))


def slow_find(statement: str, benchmark: list[str]) -> Overlap | None:
    """The same by comparing words with words."""

    def plain(text: str) -> str:
        return "".join(text.lower().replace("$", "").split())

    for place, other in enumerate(benchmark):
        if plain(statement) == plain(other):
            return Overlap(place, OverlapKind.EXACT)
    mine, *theirs = (re.findall("[a-z]+", text.lower()) for text in (statement, *benchmark))
    for start in range(len(mine) - RUN_OF_WORDS + 1):
        for place, words in enumerate(theirs):
            runs = (words[at : at + RUN_OF_WORDS] for at in range(len(words) - RUN_OF_WORDS + 1))
            if mine[start : start + RUN_OF_WORDS] in runs:
                return Overlap(place, OverlapKind.RUN)
    return None


STATEMENTS = st.lists(st.sampled_from(["a", "b", "A ", " $", ", "]), max_size=60).map(" ".join)


@settings(deadline=None)
@given(STATEMENTS, st.lists(STATEMENTS, max_size=3), st.integers(0, 10), st.integers(0, 40))
def test_the_index_finds_what_a_plain_comparison_finds(
    statement: str, benchmark: list[str], start: int, length: int
) -> None:
    copied = "before " + statement[start : start + length * 3] + " after"
    for candidate in (statement, copied):
        for others in (benchmark, [*benchmark, statement]):
            assert OverlapIndex(others).find(marks_of(candidate)) == slow_find(candidate, others)
