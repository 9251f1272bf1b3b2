"""A reward function for verl.

`reward.custom_reward_function.path=pkg://hsstar.verifier.adapters.verl` and `.name=compute_score`.
"""

from typing import Any

from hsstar.domain.verdict import Verdict
from hsstar.verifier.adapters import reference_of
from hsstar.verifier.shared import judge


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: dict[str, Any] | None = None,
    **options: Any,
) -> float:
    """Return 1.0 if the response `solution_str` is correct, else 0.0, also without verdict: verl skips none.

    The other arguments are verl's, and change nothing. Raise EngineError if no checking process starts.
    """
    judgement = judge(solution_str, reference_of(ground_truth), is_answer=False)
    return float(judgement.verdict is Verdict.CORRECT)
