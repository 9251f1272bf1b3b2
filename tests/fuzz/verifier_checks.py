"""Checks that hold for a verifier with any answers and references."""

import time
from collections.abc import Sequence

from hsstar.domain.answers import extract_answer
from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest

LONGEST_PREPARATION_SECONDS = 1.0
LONGEST_PAIR_SECONDS = 10.0
"""A deadline, and the replacement of a process, on a busy machine."""


def check_preparation(verifier: MathVerifier, request: VerificationRequest) -> None:
    """Check that extraction and comparison of texts end quickly and without an error."""
    start = time.thread_time()
    extracted = extract_answer(request.response, request.truncated)
    assert extracted is None or extracted.text, "an extracted answer is never empty"
    [pair] = verifier.prepare([request])
    assert pair.reference == request.reference
    assert time.thread_time() - start < LONGEST_PREPARATION_SECONDS, f"slow: {request!r}"


def check_verdicts(verifier: MathVerifier, requests: Sequence[VerificationRequest]) -> None:
    """Check that every request gets its judgement in time, and every readable reference equals itself."""
    start = time.monotonic()
    assert len(verifier.verify(requests)) == len(requests)
    references = [request.reference for request in requests]
    readable = verifier.check_references(references, second_look_seconds=0)
    assert len(readable) == len(references)
    themselves = verifier.verify([VerificationRequest(text, text, is_answer=True) for text in references])
    unequal = [
        (reference, str(judgement.cause))
        for reference, is_readable, judgement in zip(references, readable, themselves, strict=True)
        if is_readable and judgement.cause is not Cause.CORRECT
    ]
    assert time.monotonic() - start < 3 * len(requests) * LONGEST_PAIR_SECONDS
    assert not unequal, f"readable, but not equal to itself: {unequal!r}"
