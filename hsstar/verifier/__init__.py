r"""Decide whether the final answer of a response is equivalent to a reference answer.

    from hsstar.verifier import MathVerifier, VerificationRequest, judge

    judge(r"\frac{2}{4}", "0.5").verdict  # correct

    with MathVerifier(processes=2) as verifier:
        [judgement] = verifier.verify([VerificationRequest(r"It is \boxed{\frac{2}{4}}.", "0.5")])
    judgement.cause, judgement.verdict, judgement.answer  # correct, correct, \frac{2}{4}

`MathVerifier.verify` takes a list and returns one judgement per response, in order. No response makes it
raise an error, and no pair takes longer than its deadline. `judge` and `SharedVerifier` serve many callers at
once; `adapters` are rewards for other trainers, `server` answers over HTTP.

The package imports only the standard library, Math-Verify with its sympy (in checking processes), and the
modules `answers`, `errors`, `program_tests`, `text`, `verdict` and `verification` of `hsstar.domain`, which
import nothing else. `server` also imports Starlette and uvicorn, a verifier of kind `judge` `hsstar.remote`
with httpx2.
"""

from hsstar.verifier.contract import AnswerPair, VerificationRequest, Verifier
from hsstar.verifier.math_verifier import RULES_VERSION, Explanation, MathVerifier
from hsstar.verifier.references import ReferenceKind
from hsstar.verifier.shared import SharedVerifier, judge, judge_async, judge_batch

__all__ = [
    "RULES_VERSION",
    "AnswerPair",
    "Explanation",
    "MathVerifier",
    "ReferenceKind",
    "SharedVerifier",
    "VerificationRequest",
    "Verifier",
    "judge",
    "judge_async",
    "judge_batch",
]
