"""What is nearly right is wrong, and what says the same in other words is right."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier, VerificationRequest
from tests.verifier.near_misses import KINDS, NearMiss, near_misses

_FEW, _MANY = 15, 2_000
_AT_ONCE = 250  # of the many


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=60.0) as verifier:
        yield verifier


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_equal_answers_are_correct_and_near_misses_are_not(
    verifier: MathVerifier, kind: Callable[[Random], NearMiss]
) -> None:
    assert misjudged(verifier, list(near_misses(kind, _FEW))) == []


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_none_of_many_near_misses_is_correct(
    verifier: MathVerifier, kind: Callable[[Random], NearMiss]
) -> None:
    drawn = list(near_misses(kind, _MANY))
    assert len(drawn) == len(set(drawn)) == _MANY
    for start in range(0, _MANY, _AT_ONCE):
        assert misjudged(verifier, drawn[start : start + _AT_ONCE]) == []


def misjudged(verifier: MathVerifier, drawn: list[NearMiss]) -> list[tuple[NearMiss, Cause, Cause]]:
    """Return the near misses of which the equal pair is not correct or the unequal one not incorrect."""
    requests = [
        VerificationRequest(miss.answer, reference, is_answer=True)
        for miss in drawn
        for reference in (miss.equal, miss.unequal)
    ]
    causes = [judgement.cause for judgement in verifier.verify(requests)]
    return [
        (miss, equal, unequal)
        for miss, equal, unequal in zip(drawn, causes[::2], causes[1::2], strict=True)
        if equal is not Cause.CORRECT or unequal is not Cause.INCORRECT
    ]
