"""`exact`: the answer is the reference, letter by letter."""

from dataclasses import dataclass
from typing import ClassVar

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.texts import TextSettings, TextVerifier


@dataclass(frozen=True, slots=True)
class ExactSettings(TextSettings):
    """Which differences between two texts do not count."""

    kind: ClassVar[str] = "exact"
    ignore_case: bool = False
    ignore_spaces: bool = True
    """White space at the ends goes, and any within counts as one space."""


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
