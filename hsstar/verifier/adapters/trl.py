"""A reward function for TRL's trainers (`reward_funcs=math_reward`), in place of TRL's `accuracy_reward`."""

from collections.abc import Iterable, Sequence
from typing import Any

from hsstar.domain.verdict import Verdict
from hsstar.verifier.adapters import reference_of, text_of
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.shared import judge_batch


def math_reward(
    completions: Sequence[str | Iterable[Any]], solution: Sequence[object], **columns: Any
) -> list[float | None]:
    """Return 1.0 for each correct completion, 0.0 for an incorrect one, None (TRL skips it) without verdict.

    `completions` are texts or conversations; the column `solution` holds the references. TRL's table of
    completions gets the column `cause`. Raise EngineError if no checking process starts.
    """
    judgements = judge_batch(
        VerificationRequest(text_of(completion), reference_of(value))
        for completion, value in zip(completions, solution, strict=True)
    )
    if log_extra := columns.get("log_extra"):
        log_extra("cause", [str(judgement.cause) for judgement in judgements])
    rewards = {Verdict.CORRECT: 1.0, Verdict.INCORRECT: 0.0, None: None}
    return [rewards[judgement.verdict] for judgement in judgements]
