"""What every reward model promises (`hsstar.engines.rewards.contract.ProcessRewardModel`)."""

from collections.abc import Sequence

from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from hsstar.testing.promises import HOSTILE_TEXTS, demand

_USUAL = (
    RewardRequest("What is 1+1?", ("1+1 is a sum.", "It is 2.", r"\boxed{2}")),
    RewardRequest("What is 1+1?", ("It is 3.",)),
    RewardRequest("What is the largest prime below 20?", ("19 is prime.", "The answer is 19.")),
    RewardRequest("What is 2*3?", ()),
)


def check_reward_model(
    model: ProcessRewardModel, requests: Sequence[RewardRequest] = _USUAL, tolerance: float = 1e-4
) -> None:
    """Score requests in several batches; raise BrokenPromiseError where the model breaks a promise.

    Rewards of different batches may differ by `tolerance`. The model stays open.
    """
    together = _score(model, requests)
    backwards = _score(model, requests[::-1])[::-1]
    _demand_same(backwards, together, tolerance, "the order of the requests changes no reward")
    alone = [_score(model, [request])[0] for request in requests]
    _demand_same(alone, together, tolerance, "the other requests of a batch change no reward")
    _score(model, [RewardRequest(text, (text, "7")) for text in HOSTILE_TEXTS[1:] if _is_text(text)])
    demand(model.score([]) == [], "no request gives no result")
    demand(bool(model.name.strip()), "the name says which model it is")


def _score(model: ProcessRewardModel, requests: Sequence[RewardRequest]) -> list[StepRewards]:
    results = model.score(requests)
    demand(len(results) == len(requests), "there is one result per request", len(results))
    for request, result in zip(requests, results, strict=True):
        for reward in result.rewards:
            demand(0 <= reward <= 1, "a reward is a number from 0 to 1", result)
        most = max(1, len(request.steps))
        demand(len(result.rewards) <= most, "a response has at most one reward, or one per step", result)
    return results


def _demand_same(
    left: Sequence[StepRewards], right: Sequence[StepRewards], tolerance: float, promise: str
) -> None:
    for one, other in zip(left, right, strict=True):
        same = len(one.rewards) == len(other.rewards) and one.truncated == other.truncated
        near = all(
            abs(mine - theirs) <= tolerance for mine, theirs in zip(one.rewards, other.rewards, strict=False)
        )
        demand(same and near, promise, f"{one} and {other}")


def _is_text(text: str) -> bool:
    """Say whether a text can be stored: Postgres takes neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
