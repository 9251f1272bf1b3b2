"""`numeric`: the answer is a number near the reference."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import NumericSettings
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.texts import TextVerifier
from hsstar.verifier.references import ReferenceKind

_NUMBER = re.compile(
    r"(?P<sign>[-+\u2212]?)(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)"
    r"(?:[eE](?P<exponent>[-+]?\d{1,3}))?(?:/(?P<divisor>\d+))?(?P<percent>%?)",
    re.ASCII,
)
_LONGEST = 400


class NumericVerifier(TextVerifier):
    """Compare numbers exactly as they are written, in tolerances (contract `Verifier`)."""

    def __init__(self, settings: NumericSettings, processes: int | None = None) -> None:
        super().__init__(settings, processes)
        self._relative = Fraction(settings.relative_tolerance)
        self._absolute = Fraction(settings.absolute_tolerance)

    def compare(self, answer: str, request: VerificationRequest) -> CheckResult:
        """Compare the one number of an answer with that of the reference."""
        reference = number_of(request.reference)
        if reference is None:
            return CheckResult(Cause.BAD_REFERENCE, "the reference is not a number")
        number = number_of(answer)
        if number is None:
            return CheckResult(Cause.UNPARSABLE, "the answer is not a number")
        off = abs(number - reference)
        near = off <= max(self._absolute, self._relative * abs(reference))
        return CheckResult(
            Cause.CORRECT if near else Cause.INCORRECT, None if near else f"off by {_shown(off)}"
        )

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """A reference has to be a number."""
        numbers = [number_of(request.reference) for request in requests]
        return [ReferenceKind.UNREADABLE if number is None else ReferenceKind.VALUE for number in numbers]


def number_of(text: str) -> Fraction | None:
    """Return the number that a text is, such as `-1,234.5`, `3/4`, `1e-3`, `$12$` or `50%`; else None."""
    text = text.strip().strip("$").strip()
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or (match["divisor"] and not int(match["divisor"])):
        return None
    number = Fraction(match["digits"].replace(",", "").rstrip(".") or "0")
    number *= Fraction(10) ** int(match["exponent"] or 0)
    number /= int(match["divisor"] or 1) * (100 if match["percent"] else 1)
    return -number if match["sign"] in ("-", "\u2212") else number


def _shown(off: Fraction) -> str:
    try:
        return f"{float(off):.6g}"
    except OverflowError:
        return f"about 10^{math.floor(math.log10(off.numerator) - math.log10(off.denominator))}"
