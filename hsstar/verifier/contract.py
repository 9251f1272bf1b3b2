"""What a verifier has to do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hsstar.domain.verdict import Cause, Judgement


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """One response to verify against a reference answer.

    Attributes:
        response: the whole response.
        reference: the problem's reference answer.
        truncated: the response was cut at its token limit.
        is_answer: `response` is the final answer itself, and nothing has to be extracted.
    """

    response: str
    reference: str
    truncated: bool = False
    is_answer: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A final answer beside its reference answer, decided or still open.

    Attributes:
        answer: the extracted final answer as written, None where the response has none.
        reference: the reference answer as written.
        cause: the cause where the texts alone decide it, None where it takes algebra.
        key: 16 bytes; comparisons that have the same get the same cause from the same version of a verifier.
    """

    answer: str | None
    reference: str
    cause: Cause | None
    key: bytes


class Verifier(Protocol):
    """Decides whether final answers are equivalent to their references. Never hangs, never raises."""

    version: str
    """Verifiers of the same version give the same verdicts."""

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[Comparison]:
        """One comparison per request, in order: extracts the answers and decides what needs no algebra."""
        ...

    def decide(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[bytes, Cause]]:
        """Decides open comparisons; yields each different key once, as soon as its cause is known."""
        ...

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        ...

    def close(self) -> None:
        """Ends the checking processes."""
        ...
