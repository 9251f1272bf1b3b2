"""What the kinds of verification share: settings, the final answer of a response, and a verifier of texts."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Self

from hsstar.domain.answers import extract_answer
from hsstar.domain.verdict import CheckResult, Judgement
from hsstar.domain.verification import KindSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.references import ReferenceKind

KINDS_VERSION = 2
"""Raised whenever a response may get another verdict than before from a kind other than mathematics."""


def version_of(settings: KindSettings, *sources: str) -> str:
    """Return a version that names the kind, and a digest of its settings and of what else decides."""
    decisive = json.dumps([asdict(settings), *sources], sort_keys=True)
    digest = hashlib.blake2b(decisive.encode(), digest_size=6).hexdigest()
    return f"{settings.kind} {digest}/hsstar {KINDS_VERSION}"


def key_of(*texts: str) -> bytes:
    """Return the key of a pair that these texts decide."""
    decisive = json.dumps(texts)  # ASCII, and unlike for lists that are unlike
    return hashlib.blake2b(decisive.encode(), digest_size=16).digest()


def final_answer(request: VerificationRequest, *, whole: bool = False) -> str | None:
    """Return the final answer of a response, by the rules of `extract_answer`."""
    if request.is_answer:
        return request.response
    extracted = extract_answer(request.response, request.truncated, whole=whole)
    return None if extracted is None else extracted.text


class BaseVerifier(ABC):
    """The contract `Verifier` over `prepare` and `decide`."""

    compares_answers = True

    @property
    @abstractmethod
    def version(self) -> str:
        """Verifiers of the same version give the same verdicts."""

    @abstractmethod
    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """As the contract says."""

    @abstractmethod
    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """As the contract says."""

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """Every reference that is not empty can be used, unless the kind knows more."""
        empty, words = ReferenceKind.UNREADABLE, ReferenceKind.WORDS
        return [words if request.reference.strip() else empty for request in requests]

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """Return one judgement per request, in order."""
        pairs = self.prepare(requests)
        decided = dict(self.decide([pair for pair in pairs if pair.cause is None]))
        return [
            Judgement(pair.cause, pair.answer, pair.detail)
            if pair.cause is not None
            else Judgement(decided[pair.key].cause, pair.answer, decided[pair.key].detail)
            for pair in pairs
        ]

    @abstractmethod
    def close(self) -> None:
        """End what the verifier has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
