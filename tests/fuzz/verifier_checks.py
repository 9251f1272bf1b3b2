"""What has to hold for a verifier whatever answers and references it gets."""

import time
from collections.abc import Sequence

from hsstar.domain.answers import extract_answer
from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest

LONGEST_PREPARATION_SECONDS = 1.0
LONGEST_PAIR_SECONDS = 10.0
"""A deadline, and a process to be replaced, on a busy machine."""


def check_preparation(verifier: MathVerifier, request: VerificationRequest) -> None:
    """Extraction and comparison of texts end quickly and without an error."""
    start = time.thread_time()
    found = extract_answer(request.response, request.truncated)
    assert found is None or found.text, "an extracted answer is never empty"
    [comparison] = verifier.prepare([request])
    assert comparison.reference == request.reference
    assert time.thread_time() - start < LONGEST_PREPARATION_SECONDS, f"slow: {request!r}"


def check_verdicts(verifier: MathVerifier, requests: Sequence[VerificationRequest]) -> None:
    """Every request gets its judgement in time, and every readable reference equals itself."""
    start = time.monotonic()
    assert len(verifier.verify(requests)) == len(requests)
    references = [request.reference for request in requests]
    readable = verifier.check_references(references, second_look_seconds=0)
    assert len(readable) == len(references)
    themselves = verifier.verify([VerificationRequest(text, text, is_answer=True) for text in references])
    strangers = [
        (reference, str(judgement.cause))
        for reference, is_readable, judgement in zip(references, readable, themselves, strict=True)
        if is_readable and judgement.cause is not Cause.CORRECT
    ]
    assert time.monotonic() - start < 3 * len(requests) * LONGEST_PAIR_SECONDS
    assert not strangers, f"readable, and yet not equal to itself: {strangers!r}"
