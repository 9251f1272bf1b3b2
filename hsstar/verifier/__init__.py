r"""Decide whether the final answer of a response is equivalent to a reference answer.

    from hsstar.verifier import MathVerifier, VerificationRequest

    with MathVerifier(processes=2) as verifier:
        [judgement] = verifier.verify([VerificationRequest(r"It is \boxed{\frac{2}{4}}.", "0.5")])
    judgement.cause, judgement.verdict, judgement.answer  # correct, correct, \frac{2}{4}

`MathVerifier.verify` takes a list and returns one judgement per response, in order. No response makes it
raise an error, and no pair takes longer than its deadline.

The package imports only the standard library, Math-Verify with its sympy, and `answers`, `errors` and
`verdict` of `hsstar.domain`, which import nothing else.
"""

from hsstar.verifier.contract import AnswerPair, VerificationRequest, Verifier
from hsstar.verifier.math_verifier import RULES_VERSION, Explanation, MathVerifier

__all__ = ["RULES_VERSION", "AnswerPair", "Explanation", "MathVerifier", "VerificationRequest", "Verifier"]
