"""Rewards by a rule, computed without a model: the length of a response, and its form."""

from collections.abc import Sequence

import regex

from hsstar.domain.answers import GUESSED, extract_answer
from hsstar.engines.rewards.contract import RequestError, RewardRequest, StepRewards

_SECONDS = 1.0
"""Time that a pattern has for a response; some take for ever."""


class LengthReward:
    """1 up to `target` tokens, 0 from `limit` tokens on, evenly falling between."""

    name = "length"

    def __init__(self, target: int, limit: int) -> None:
        self._target, self._limit = target, limit

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score requests in order; raise RequestError for one without a number of tokens."""
        return [StepRewards((self._reward(place, of.tokens),)) for place, of in enumerate(requests)]

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def _reward(self, place: int, tokens: int | None) -> float:
        if tokens is None:
            raise RequestError(
                place, "its tokens are not counted, so it has no length; imported samples have none"
            )
        return min(1.0, max(0.0, (self._limit - tokens) / (self._limit - self._target)))


class FormatReward:
    """1 for a response that holds the pattern, or without one announces its answer; 0 for any other."""

    name = "format"

    def __init__(self, pattern: str | None) -> None:
        self._pattern = None if pattern is None else regex.compile(pattern)

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score requests in order; raise RequestError for one that takes the pattern more than a second."""
        return [StepRewards((float(self._holds(place, of.response)),)) for place, of in enumerate(requests)]

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def _holds(self, place: int, response: str) -> bool:
        if self._pattern is None:
            answer = extract_answer(response)
            return answer is not None and answer.rule not in GUESSED
        try:
            return self._pattern.search(response, timeout=_SECONDS) is not None
        except TimeoutError:
            raise RequestError(
                place, f"the pattern takes more than {_SECONDS:g} s; make it simpler"
            ) from None
