"""The contract of a verifier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hsstar.domain.verdict import Cause, Judgement


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """One response to verify, perhaps cut at its token limit; `is_answer`: it is the final answer itself."""

    response: str
    reference: str
    truncated: bool = False
    is_answer: bool = False


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A final answer as written (None: the response has none) beside its reference.

    `cause` is None if only algebra can decide. Pairs with the same `key` of 16 bytes get the same cause from
    the same version of a verifier.
    """

    answer: str | None
    reference: str
    cause: Cause | None
    key: bytes


class Verifier(Protocol):
    """Decide whether final answers are equivalent to their references. Never hangs, never raises."""

    version: str
    """Verifiers of the same version give the same verdicts."""

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Extract the answers and decide what needs no algebra; return one pair per request, in order."""

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, Cause]]:
        """Decide open pairs; yield each different key once, as soon as its cause is known."""

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """Return one judgement per request, in order."""

    def close(self) -> None:
        """End the checking processes."""
