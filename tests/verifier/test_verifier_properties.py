"""Properties of the verifier that hold for any answer and any reference."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from tests.fuzz.answer_grammar import damaged, written_answer
from tests.fuzz.verifier_checks import check_preparation, check_verdicts

FRAMES = ["{}", r"\boxed{{{}}}", "The answer is {}.", "Answer: ${}$", "#### {}"]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=3.0) as verifier:
        yield verifier


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw an answer by the grammar, a damaged one, or any text."""

    def choose(number: int) -> int:
        return draw(st.integers(0, number - 1))

    kind = choose(8)
    if kind == 7:
        return draw(st.text(max_size=60))
    text = written_answer(choose)
    return damaged(text, choose, draw(st.text(max_size=4))) if kind > 4 else text


@st.composite
def requests(draw: st.DrawFn) -> VerificationRequest:
    frame = draw(st.sampled_from(FRAMES))
    return VerificationRequest(
        frame.format(draw(texts())), draw(texts()), draw(st.booleans()), is_answer=frame == "{}"
    )


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def test_preparation_is_quick_and_raises_nothing(
    verifier: MathVerifier, request_: VerificationRequest
) -> None:
    check_preparation(verifier, request_)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests(), min_size=1, max_size=8))
def test_every_request_gets_a_judgement_and_readable_references_equal_themselves(
    verifier: MathVerifier, requests_: list[VerificationRequest]
) -> None:
    check_verdicts(verifier, requests_)
