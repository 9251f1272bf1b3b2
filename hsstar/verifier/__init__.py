r"""The verifier: decides whether the final answer of a response is equivalent to a reference answer.

    from hsstar.verifier import MathVerifier, VerificationRequest

    with MathVerifier(processes=2) as verifier:
        [judgement] = verifier.verify([VerificationRequest(r"It is \boxed{\frac{2}{4}}.", "0.5")])
    judgement.cause, judgement.verdict, judgement.answer  # correct, correct, \frac{2}{4}

`MathVerifier.verify` takes a list and returns one judgement per response, in order. It never raises for what
a response holds, and never waits longer than its deadline for one pair.
"""

from hsstar.verifier.contract import Comparison, VerificationRequest, Verifier
from hsstar.verifier.math_verifier import RULES_VERSION, Explanation, MathVerifier

__all__ = ["RULES_VERSION", "Comparison", "Explanation", "MathVerifier", "VerificationRequest", "Verifier"]
