"""Properties of the verifier that hold for any answer and any reference."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from tests.fuzz.answer_grammar import drawn_request
from tests.fuzz.verifier_checks import check_preparation, check_verdicts
from tests.generated import examples


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=3.0) as verifier:
        yield verifier


@st.composite
def requests(draw: st.DrawFn) -> VerificationRequest:
    return drawn_request(
        lambda number: draw(st.integers(0, number - 1)),
        lambda length: draw(st.text(max_size=min(length, 60))),
    )


@examples(250)
@given(requests())
def test_preparation_is_quick_and_raises_nothing(
    verifier: MathVerifier, request_: VerificationRequest
) -> None:
    check_preparation(verifier, request_)


@pytest.mark.slow
@examples(25)
@given(st.lists(requests(), min_size=1, max_size=6))
def test_every_request_gets_a_judgement_and_readable_references_equal_themselves(
    verifier: MathVerifier, requests_: list[VerificationRequest]
) -> None:
    check_verdicts(verifier, requests_)
