"""How rewards of steps become that of a response, and several rewards two."""

import pytest

from hsstar.domain.rewards import Aggregation, CombinedReward, RewardRule, RewardUse, aggregate, combine
from hsstar.engines.rewards.contract import RequestError, RewardRequest
from hsstar.engines.rewards.rules import FormatReward, LengthReward


def test_by_default_the_weakest_step_decides_and_without_a_step_the_reward_is_nought() -> None:
    assert [aggregate(rewards) for rewards in ((0.9, 0.2, 0.7), [1.0], ())] == [0.2, 1.0, 0.0]


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("min", 0.25), ("mean", 0.5), ("last", 0.5), ("product", 0.09375)]
)
def test_steps_become_a_reward_as_the_recipe_says(aggregation: str, expected: float) -> None:
    assert aggregate((0.75, 0.25, 0.5), Aggregation(aggregation)) == expected
    assert aggregate((), Aggregation(aggregation)) == 0.0


def test_a_product_that_is_too_small_for_a_number_is_nought() -> None:
    assert aggregate([1e-3] * 40, Aggregation.PRODUCT) == pytest.approx(1e-120)
    assert aggregate([1e-3] * 60, Aggregation.PRODUCT) == aggregate([1e-3] * 1000, Aggregation.PRODUCT) == 0.0


def of(use: str, weight: float = 1.0) -> RewardRule:
    return RewardRule(RewardUse(use), weight, Aggregation.MIN)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([of("both")], (1.0, 1.0)),
        ([of("both", 3.0), of("both")], (0.75, 0.75)),
        ([of("difficulty"), of("pairs")], (1.0, 0.0)),
        ([of("record"), of("pairs")], (0.0, 0.0)),
        ([of("difficulty"), of("record")], (1.0, 1.0)),
        ([of("record"), of("record", 3.0)], (0.25, 0.25)),
    ],
)
def test_several_rewards_count_by_weight_where_they_are_used(
    rules: list[RewardRule], expected: tuple[float, float]
) -> None:
    named = {f"r{place}": rule for place, rule in enumerate(rules)}
    steps = {"r0": (1.0,), "r1": (0.0,)}
    assert combine({name: steps[name] for name in named}, named) == CombinedReward(*expected)


def asked(response: str = "", tokens: int | None = None) -> RewardRequest:
    return RewardRequest("1+1?", (), response, "2", tokens)


def test_a_length_falls_evenly_from_its_target_to_its_limit() -> None:
    scores = LengthReward(100, 200).score([asked(tokens=tokens) for tokens in (0, 100, 150, 199, 200, 900)])
    assert [score.rewards for score in scores] == [(1.0,), (1.0,), (0.5,), (0.01,), (0.0,), (0.0,)]
    with pytest.raises(RequestError, match="its tokens are not counted") as error:
        LengthReward(0, 9).score([asked(tokens=1), asked()])
    assert error.value.place == 1


@pytest.mark.slow
def test_a_form_is_a_pattern_or_an_announced_answer() -> None:
    responses = ["So \\boxed{2}", "The answer is 2.", "it is 2", ""]
    by_answer, by_pattern = FormatReward(None), FormatReward("^(So|it)")
    assert [score.rewards for score in by_answer.score([*map(asked, responses)])] == [
        (1.0,),
        (1.0,),
        (0.0,),
        (0.0,),
    ]
    assert [score.rewards for score in by_pattern.score([*map(asked, responses)])] == [
        (1.0,),
        (0.0,),
        (1.0,),
        (0.0,),
    ]
    with pytest.raises(RequestError, match="the pattern timed out; make it simpler") as error:
        FormatReward("(a|aa|aaa)+b").score([asked("b"), asked("a" * 60)])
    assert error.value.place == 1
