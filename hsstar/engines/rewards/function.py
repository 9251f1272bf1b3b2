"""A function of the user as reward."""

from collections.abc import Sequence

from hsstar.engines.functions import UserFunction
from hsstar.engines.rewards.contract import RewardRequest, StepRewards


class FunctionReward:
    """The function gets response, reference and problem; it returns a number, or one for each step."""

    def __init__(self, function: str, source: str | None) -> None:
        self.name = f"python {function}"
        self._function = UserFunction("reward", function, source)

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score requests in order; raise RequestError for one at which the function fails."""
        tasks = [
            {"response": of.response, "reference": of.reference, "problem": of.problem} for of in requests
        ]
        return [StepRewards(tuple(rewards)) for rewards in self._function.ask(tasks)]

    def check(self) -> None:
        """Import the function; raise EngineError if there is none that can be called so."""
        self._function.check()

    def close(self) -> None:
        """End the processes of the function."""
        self._function.close()
