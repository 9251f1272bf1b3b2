"""Reward functions for Prime Intellect's `verifiers`: of a rubric, and of a task of its later interface."""

from collections.abc import Iterable
from typing import Any

from hsstar.domain.verdict import Verdict
from hsstar.verifier.adapters import reference_of, text_of
from hsstar.verifier.shared import judge_async


async def correct_answer(completion: str | Iterable[Any], answer: object) -> float:
    """Return 1.0 if a completion gives the `answer`, else 0.0: `verifiers.Rubric(funcs=[correct_answer])`.

    Without a verdict it is 0.0 too. Raise EngineError if no checking process starts.
    """
    judgement = await judge_async(text_of(completion), reference_of(answer), is_answer=False)
    return float(judgement.verdict is Verdict.CORRECT)


async def math_reward(task: Any, trace: Any) -> float:
    """Return `correct_answer` of the last reply in a trace, to the `answer` of its task (`verifiers.v1`).

    In the configuration of a task: `rewards.math.fn = "hsstar.verifier.adapters.verifiers:math_reward"`.
    """
    return await correct_answer(trace.last_reply, task.answer)
