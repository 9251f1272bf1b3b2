"""Kinds that compare the final answer with the reference in a moment, in this process."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import TextSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import BaseVerifier, final_answer, key_of, version_of
from hsstar.verifier.kinds.pooled import PatternSearch


class TextVerifier(BaseVerifier):
    """Compare answers as texts of some kind (contract `Verifier`)."""

    def __init__(self, settings: TextSettings, processes: int | None = None) -> None:
        self._version = version_of(settings)
        self._extract = settings.extract
        self._patterns = PatternSearch(processes) if settings.extract is not None else None

    @property
    def version(self) -> str:
        """Names kind and settings."""
        return self._version

    @abstractmethod
    def compare(self, answer: str, request: VerificationRequest) -> CheckResult:
        """Compare an answer with the reference; it takes no longer than reading both."""

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Find all answers, and decide; raise EngineError if a pattern needs a process and none starts."""
        answers = self._answers(requests)
        return [self._pair(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Nothing is left to decide."""
        return iter(())

    def close(self) -> None:
        """End the processes that look for a pattern, if there are any."""
        if self._patterns is not None:
            self._patterns.close()

    def _answers(self, requests: Sequence[VerificationRequest]) -> list[str | CheckResult]:
        """Return the answers, or why there is none."""
        if self._patterns is None or self._extract is None:
            finals = [final_answer(request) for request in requests]
            return [CheckResult(Cause.NO_ANSWER) if final is None else final for final in finals]
        searched = {
            place: request.response for place, request in enumerate(requests) if not request.is_answer
        }
        places = list(searched)
        found = self._patterns.find([(self._extract, text) for text in searched.values()])
        answers: dict[int, str | CheckResult] = {places[index]: answer for index, answer in found}
        return [answers.get(place, request.response) for place, request in enumerate(requests)]

    def _pair(self, request: VerificationRequest, answer: str | CheckResult) -> AnswerPair:
        if isinstance(answer, CheckResult):
            key = key_of(request.response, request.reference)
            return AnswerPair(None, request.reference, answer.cause, key, answer.detail)
        found = self.compare(answer, request)
        key = key_of(answer, request.reference, request.problem)
        return AnswerPair(answer, request.reference, found.cause, key, found.detail)
