"""What kind of reference a text is; a reference that would not accept itself is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsstar.data.files import read_problems
from hsstar.verifier import MathVerifier, ReferenceKind
from hsstar.verifier.references import kind_without_algebra

SHARED = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"

KINDS = [
    ("12", ReferenceKind.VALUE),
    ("-3.50", ReferenceKind.VALUE),
    (r"\frac{1}{2}", ReferenceKind.VALUE),
    ("50\\%", ReferenceKind.VALUE),
    ("12 \\text{ cm}^2", ReferenceKind.VALUE),
    ("[2, 5)", ReferenceKind.VALUE),
    ("x^2+1", ReferenceKind.VALUE),
    ("(C)", ReferenceKind.VALUE),
    ("no solution", ReferenceKind.VALUE),
    ("Yes", ReferenceKind.WORDS),
    ("true", ReferenceKind.WORDS),
    ("isosceles triangle", ReferenceKind.WORDS),
    ("", ReferenceKind.UNREADABLE),
    ("???", ReferenceKind.UNREADABLE),
    (r"\frac{1}{", ReferenceKind.UNREADABLE),
    ("9" * 10_001, ReferenceKind.UNREADABLE),
    ("Yes. $F(x, y)=x y^{2}+x^{3}$", ReferenceKind.INCONSISTENT),
    ("Yes. $G(x)=x^{3}$", ReferenceKind.INCONSISTENT),
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier() as started:
        yield started


@pytest.mark.parametrize(("reference", "kind"), KINDS)
def test_a_reference_is_a_value_words_or_of_no_use(reference: str, kind: ReferenceKind) -> None:
    assert kind_without_algebra(reference) is kind
    assert kind.is_usable == (kind in (ReferenceKind.VALUE, ReferenceKind.WORDS))


def test_references_are_examined_in_order_and_formulas_by_algebra(verifier: MathVerifier) -> None:
    references = [*(reference for reference, _ in KINDS), r"x+\min at n\pi", "x+1", "12"]
    kinds = [*(kind for _, kind in KINDS), ReferenceKind.UNREADABLE, ReferenceKind.VALUE, ReferenceKind.VALUE]
    assert verifier.examine_references(references) == kinds


def test_what_is_examined_as_usable_can_be_read(verifier: MathVerifier) -> None:
    references = [reference for reference, _ in KINDS]
    for kind, readable in zip(
        verifier.examine_references(references), verifier.check_references(references), strict=True
    ):
        assert readable or not kind.is_usable


@pytest.mark.heavy
@pytest.mark.skipif(not SHARED.exists(), reason="the benchmark files are not at hand")
def test_nearly_all_references_of_published_benchmarks_accept_themselves() -> None:
    problems = [problem for file in sorted(SHARED.glob("*.jsonl")) for problem in read_problems(file)]
    kinds = [kind_without_algebra(problem.reference) for problem in problems]
    assert kinds.count(ReferenceKind.INCONSISTENT) == 3
