"""What the checking processes of `MathVerifier` do.

A task is `{"answer": text, "reference": text}`; or has `formulas` in place of both, which asks whether all of
them can be read. Its outcome is `CAUSE RULE`.
"""

from typing import Any

from hsstar.domain.verdict import Cause
from hsstar.verifier.algebra import SympyAlgebra
from hsstar.verifier.forms import Formula
from hsstar.verifier.judging import judge
from hsstar.verifier.process import AnswerTask

_WARMING_PAIRS = (  # one of each kind that is slow the first time, in sympy or in the parser
    (r"x^{2}-\frac{1}{2}", r"\frac{2x^2-1}{2}"),
    (r"\sqrt{2}\sin x+\ln x", r"\ln x+\sqrt{2}\sin x"),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"),
    (r"\sum_{k=1}^{\infty}\frac{1}{2^{k}}", "1"),
    (r"\lim_{h\to\infty}(1+3/h)^{h}-\frac{1}{h}", r"f^{2}(h)"),
    (r"\int_{1}^{3} 2t^{3} dt", "40"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "I_{2}"),
    (r"\lceil x\rceil=2", r"\lfloor x\rfloor=2"),
    (r"\begin{pmatrix}x\\2\end{pmatrix}+\begin{pmatrix}1\\0\end{pmatrix}", "(x+1,2)"),
    (r"2x+y=1", r"4x+2y=2"),
)


def load(setup: object) -> AnswerTask:
    """Load sympy and Math-Verify; return what judges a pair, or reads formulas."""
    algebra = SympyAlgebra()

    def answer_task(task: dict[str, Any]) -> str:
        if "formulas" in task:
            readable = all(algebra.can_read(Formula(source)) for source in task["formulas"])
            return Cause.CORRECT if readable else Cause.BAD_REFERENCE
        decision = judge(task["answer"], task["reference"], algebra)
        return f"{decision.cause} {decision.rule}"

    for answer, reference in _WARMING_PAIRS:
        answer_task({"answer": answer, "reference": reference})
    return answer_task
