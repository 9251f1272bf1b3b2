"""`regex`: a pattern finds the answer, or the reference is a pattern that the answer has to match."""

from collections.abc import Iterator, Sequence

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import RegexSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import BaseVerifier, final_answer, key_of, version_of
from hsstar.verifier.kinds.pooled import PatternSearch


class RegexVerifier(BaseVerifier):
    """Match patterns in checking processes, because one may hang (contract `Verifier`)."""

    compares_answers = False

    def __init__(self, settings: RegexSettings, processes: int | None = None) -> None:
        self._settings = settings
        self._patterns = PatternSearch(processes)

    @property
    def version(self) -> str:
        """Names kind and settings."""
        return version_of(self._settings)

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Find the answers; by a pattern of the recipe that decides all."""
        if self._settings.pattern is None:
            return [self._pair(request) for request in requests]
        searches = [(self._settings.pattern, request.response) for request in requests]
        found = dict(self._patterns.find(searches, ignore_case=self._settings.ignore_case))
        return [self._compared(request, found[place]) for place, request in enumerate(requests)]

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Match answers with their references; raise EngineError if no process starts."""
        different = list({pair.key: pair for pair in pairs}.values())
        searches = [(pair.reference, pair.answer or "") for pair in different]
        matches = self._patterns.find(searches, whole=True, ignore_case=self._settings.ignore_case)
        for index, found in matches:
            yield different[index].key, CheckResult(Cause.CORRECT) if isinstance(found, str) else found

    def close(self) -> None:
        """End the checking processes."""
        self._patterns.close()

    def _pair(self, request: VerificationRequest) -> AnswerPair:
        answer = final_answer(request)
        key = key_of("none" if answer is None else "answer", answer or "", request.reference)
        return AnswerPair(answer, request.reference, Cause.NO_ANSWER if answer is None else None, key)

    def _compared(self, request: VerificationRequest, found: str | CheckResult) -> AnswerPair:
        key = key_of(request.response, request.reference)
        if isinstance(found, CheckResult):
            return AnswerPair(None, request.reference, found.cause, key, found.detail)
        same = self._normal(found) == self._normal(request.reference)
        return AnswerPair(found, request.reference, Cause.CORRECT if same else Cause.INCORRECT, key)

    def _normal(self, text: str) -> str:
        return text.strip().casefold() if self._settings.ignore_case else text.strip()
