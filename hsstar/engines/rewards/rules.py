"""Rewards by a rule, computed without a model: the length of a response, and its form."""

from collections.abc import Sequence

from hsstar.domain.answers import GUESSED, extract_answer
from hsstar.domain.verdict import CheckResult
from hsstar.engines.rewards.contract import RequestError, RewardRequest, StepRewards
from hsstar.verifier.kinds.pooled import CAUSE_OF_FAILURE, PatternSearch


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
        self._pattern = pattern
        self._search = PatternSearch()  # its processes start with the first search

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score requests in order; raise RequestError for one at which the pattern hangs."""
        if self._pattern is None:
            found = [_announces(of.response) for of in requests]
        else:
            found = [False] * len(requests)
            for place, result in self._search.find([(self._pattern, of.response) for of in requests]):
                found[place] = isinstance(result, str)
                if isinstance(result, CheckResult) and result.cause in CAUSE_OF_FAILURE.values():
                    raise RequestError(place, f"{result.detail}; make it simpler")
        return [StepRewards((float(holds),)) for holds in found]

    def close(self) -> None:
        """End the processes that search."""
        self._search.close()


def _announces(response: str) -> bool:
    answer = extract_answer(response)
    return answer is not None and answer.rule not in GUESSED
