"""What is nearly right is wrong, and what says the same in other words is right."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier, VerificationRequest
from tests.verifier.near_misses import KINDS, NearMiss, near_misses

_PAIRS = 25


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=60.0) as verifier:
        yield verifier


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_equal_answers_are_correct_and_near_misses_are_not(
    verifier: MathVerifier, kind: Callable[[Random], NearMiss]
) -> None:
    drawn = list(near_misses(kind, _PAIRS))
    requests = [
        VerificationRequest(miss.answer, reference, is_answer=True)
        for miss in drawn
        for reference in (miss.equal, miss.unequal)
    ]
    causes = [judgement.cause for judgement in verifier.verify(requests)]
    wrong = [
        (miss, equal, unequal)
        for miss, equal, unequal in zip(drawn, causes[::2], causes[1::2], strict=True)
        if equal is not Cause.CORRECT or unequal is not Cause.INCORRECT
    ]
    assert wrong == []
