"""`exact`: the answer is the reference, letter by letter."""

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import ExactSettings
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.texts import TextVerifier


class ExactVerifier(TextVerifier):
    """Compare texts (contract `Verifier`)."""

    def __init__(self, settings: ExactSettings, processes: int | None = None) -> None:
        super().__init__(settings, processes)
        self._settings = settings

    def compare(self, answer: str, request: VerificationRequest) -> CheckResult:
        """Compare an answer with the reference as texts."""
        same = self._normal(answer) == self._normal(request.reference)
        return CheckResult(Cause.CORRECT if same else Cause.INCORRECT)

    def _normal(self, text: str) -> str:
        if self._settings.ignore_spaces:
            text = " ".join(text.split())
        return text.casefold() if self._settings.ignore_case else text
