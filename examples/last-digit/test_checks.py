"""The check decides rightly, and keeps what every verifier promises."""

from pathlib import Path

from hsstar.testing import check_verifier
from hsstar.verifier import VerificationRequest
from hsstar.verifier.kinds import PythonSettings, make_verifier

SOURCE = Path(__file__).with_name("checks.py").read_text(encoding="utf-8")
REFERENCE = '{"digit": 7, "value": 37}'


def test_the_last_digit_decides() -> None:
    right = [VerificationRequest(text, REFERENCE) for text in ("It is 37.", "3*9=27, so 7", r"\boxed{7}")]
    wrong = [VerificationRequest(text, REFERENCE) for text in ("It is 36.", "I do not know", "7, or 8")]
    verifier = make_verifier(PythonSettings("checks.py:last_digit", source=SOURCE))
    try:
        check_verifier(verifier, right, wrong)
    finally:
        verifier.close()
