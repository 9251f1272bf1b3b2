"""The contract of a verifier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hsstar.domain.verdict import Cause, CheckResult, Judgement
from hsstar.verifier.references import ReferenceKind


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """One response to verify, perhaps cut at its token limit; `is_answer`: it is the final answer itself."""

    response: str
    reference: str
    truncated: bool = False
    is_answer: bool = False
    problem: str = ""
    """The statement."""
    source_id: str | None = None
    """The problem's name in its source."""


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A final answer as written (None: the response has none) beside its reference.

    `cause` is None if `Verifier.decide` has to find it. Pairs with the same `key` of 16 bytes get the same
    cause from the same version of a verifier.
    """

    answer: str | None
    reference: str
    cause: Cause | None
    key: bytes
    detail: str | None = None
    """What the check says beside `cause`."""
    request: VerificationRequest | None = None
    """Where the answer comes from, for kinds whose `decide` needs more than the answer."""


class Verifier(Protocol):
    """Decide whether responses are right by their references. Never hangs, never raises on a response."""

    compares_answers: bool
    """Whether an answer can stand in a reference's place, so that equivalent wrong answers are found."""

    @property
    def version(self) -> str:
        """Verifiers of the same version give the same verdicts."""

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """Say of each request, in order, what kind its reference is; responses are not looked at."""

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Extract the answers and decide what is quickly decided; return one pair per request, in order."""

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Decide open pairs; yield each different key once, as soon as its result is known."""

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """Return one judgement per request, in order."""

    def close(self) -> None:
        """End the checking processes."""
