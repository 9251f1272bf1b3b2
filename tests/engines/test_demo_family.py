"""What the demo's family, policy and reward model are like, so that allocation policies can be told apart."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import pytest

from hsstar.demo.family import DemoLevel, DemoProblem, distinct_problems
from hsstar.domain.calibration import Observation, calibrate
from hsstar.domain.prompts import render_prompt
from hsstar.domain.seeds import slot_seed
from hsstar.domain.steps import split_steps
from hsstar.engines.registry import build_reward_model, build_sampler
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.sampling.contract import SampleRequest, SamplingParameters

PROBLEMS, SAMPLES, N, N_P = 320, 16, 8, 3
pytestmark = pytest.mark.heavy


@dataclass(frozen=True)
class Sampled:
    """A problem and its responses: which box the answer, and which do so by right steps alone."""

    problem: DemoProblem
    texts: Sequence[str]
    correct: Sequence[bool]
    sound: Sequence[bool]

    @property
    def pass_rate(self) -> float:
        return sum(self.correct) / SAMPLES

    @property
    def boundary(self) -> bool:
        return 0 < sum(self.correct[:N]) < N


def is_sound(problem: DemoProblem, text: str) -> bool:
    """Whether every step carries out, and rightly, an operation that keeps the value of what is left."""
    expression = problem.expression
    for step in split_steps(text):
        marked, _, rest = step.partition("=")
        kept = [
            expression.replaced(place, expression.operation(place).value)
            for place in expression.positions(careful=True)
            if expression.bracketed(place) == marked
        ]
        if not kept or rest.removeprefix("\\boxed{").removesuffix("}") != str(kept[0]):
            return False
        expression = kept[0]
    return not expression.operators


@pytest.fixture(scope="module")
def sampled() -> Iterator[list[Sampled]]:
    """M_0's responses to problems that it has not been asked before."""
    problems = distinct_problems(PROBLEMS, seed=5, held_out=True)
    requests = [
        SampleRequest(render_prompt("bare", problem.question), slot_seed(0, 0, problem.question, slot))
        for problem in problems
        for slot in range(SAMPLES)
    ]
    sampler = build_sampler("builtin:demo-policy", device="cpu")
    texts = dict[int, str]()
    for place, completion in sampler.draw(requests, SamplingParameters(0.7, 0.95, 176)):
        assert not isinstance(completion, str)
        texts[place] = completion.text
    sampler.close()
    found = []
    for number, problem in enumerate(problems):
        own = [texts[number * SAMPLES + slot] for slot in range(SAMPLES)]
        correct = [text.endswith(f"\\boxed{{{problem.answer}}}") for text in own]
        found.append(Sampled(problem, own, correct, [is_sound(problem, text) for text in own]))
    yield found


def test_texts_vary(sampled: list[Sampled]) -> None:
    """At least 5 different ones of 8 samples of a boundary problem; several right ways."""
    boundary = [each for each in sampled if each.boundary]
    assert fmean(len(set(each.texts[:N])) for each in boundary) >= 5
    ways = [
        len({text for text, sound in zip(each.texts, each.sound, strict=True) if sound}) for each in sampled
    ]
    assert fmean(number >= 2 for number in ways) > 0.6


def test_wrong_reasoning_sometimes_reaches_the_answer(sampled: list[Sampled]) -> None:
    """At least 10 % of the correct samples hold a wrong step."""
    correct = sum(sum(each.correct) for each in sampled)
    sound = sum(sum(each.sound) for each in sampled)
    assert all(
        right or not good for each in sampled for right, good in zip(each.correct, each.sound, strict=True)
    )
    assert 1 - sound / correct >= 0.1


def test_levels_are_a_slope_and_each_holds_problems_of_every_pass_rate(sampled: list[Sampled]) -> None:
    by_level: dict[DemoLevel, list[float]] = defaultdict(list)
    for each in sampled:
        by_level[each.problem.level].append(each.pass_rate)
    means = {level: fmean(rates) for level, rates in by_level.items()}
    assert all(0.15 <= mean <= 0.7 for mean in means.values()), means
    for multiplications in (2, 3):
        slope = [mean for level, mean in means.items() if level.multiplications == multiplications]
        assert all(later < earlier + 0.05 for earlier, later in pairwise(slope)), slope
    rates = [each.pass_rate for each in sampled]
    assert fmean(rate < 0.1 for rate in rates) > 0.1
    assert fmean(rate > 0.9 for rate in rates) > 0.1
    assert fmean(0.25 <= rate <= 0.75 for rate in rates) > 0.15


def test_the_reward_model_knows_more_than_the_verdict(sampled: list[Sampled]) -> None:
    """Its minimum lowers the log-loss of a further verdict by at least 2 % beyond the count."""
    reward_model = build_reward_model("builtin:demo-prm", device="cpu")
    requests = [
        RewardRequest(each.problem.question, split_steps(text))
        for each in sampled
        for text in each.texts[:N_P]
    ]
    minima = [min(scored.rewards) for scored in reward_model.score(requests)]
    reward_model.close()
    observations = []
    for number, each in enumerate(sampled):
        right, further = sum(each.correct[:N_P]), sum(each.correct[N_P:])
        quality = fmean(minima[number * N_P : (number + 1) * N_P])
        observations.append(Observation(right, N_P - right, quality, further, SAMPLES - N_P - further))
    alone, both = (forecast.log_loss for forecast in calibrate(observations).forecasts)
    assert 1 - both / alone >= 0.02, (alone, both)
