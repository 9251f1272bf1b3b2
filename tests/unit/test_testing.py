"""The checks of `hsstar.testing` pass what keeps a contract and name the promise that another breaks."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.verdict import Cause, CheckResult, Judgement
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, FinishReason, SampleRequest, SamplingParameters
from hsstar.testing import BrokenPromiseError, check_reward_model, check_sampler, check_verifier
from hsstar.verifier import ReferenceKind
from hsstar.verifier.contract import AnswerPair, VerificationRequest

PROMPTS = ("1+1=", "2*3=", "a longer prompt: ")


class HashSampler:
    """A policy that needs no model: a text is the hash of its prompt and seed."""

    name = "hash 1"

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        for index, request in enumerate(requests):
            yield index, self.complete(request, parameters)

    def complete(self, request: SampleRequest, parameters: SamplingParameters) -> Completion:
        seed = request.seed if parameters.temperature else 0
        whole = hashlib.sha256(f"{request.prompt}{seed}".encode()).hexdigest()
        text, reason = whole[: parameters.max_new_tokens], "length"
        places = [text.find(stop) for stop in parameters.stop if stop in text]
        if places:
            text, reason = text[: min(places)], "stop"
        finish: FinishReason = "stop" if reason == "stop" else "length"
        return Completion(text, len(text), finish, -1.0 * len(text), 0.1)

    def reload(self, model: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


class OfItsPlace(HashSampler):
    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Any:
        for index, request in enumerate(requests):
            yield index, self.complete(replace(request, seed=request.seed + index), parameters)


class OfItsNeighbours(HashSampler):
    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Any:
        for index, request in enumerate(requests):
            shifted = replace(request, seed=request.seed + len(requests) % 16)
            yield index, self.complete(shifted, parameters)


class WithoutSeed(HashSampler):
    def complete(self, request: SampleRequest, parameters: SamplingParameters) -> Completion:
        return super().complete(replace(request, seed=0), parameters)


class NeverGreedy(HashSampler):
    def complete(self, request: SampleRequest, parameters: SamplingParameters) -> Completion:
        return super().complete(request, replace(parameters, temperature=1.0))


class WithItsStop(HashSampler):
    def complete(self, request: SampleRequest, parameters: SamplingParameters) -> Completion:
        return super().complete(request, replace(parameters, stop=()))


class Verbose(HashSampler):
    def complete(self, request: SampleRequest, parameters: SamplingParameters) -> Completion:
        return super().complete(request, replace(parameters, max_new_tokens=60))


class Lazy(HashSampler):
    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Any:
        yield from itertools.islice(super().draw(requests, parameters), 3)


class Refusing(HashSampler):
    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Any:
        for index, _ in enumerate(requests):
            yield index, "too long"


class Eager(HashSampler):
    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Any:
        return iter(list(super().draw(requests, parameters)))


def test_a_sampler_that_keeps_its_promises_passes() -> None:
    check_sampler(HashSampler(), PROMPTS)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (OfItsPlace, "the order of the requests changes no completion"),
        (OfItsNeighbours, "the other requests of a draw change no completion"),
        (WithoutSeed, "the seed decides a completion"),
        (NeverGreedy, "at temperature 0 the seed decides nothing"),
        (WithItsStop, "ends before the stop string"),
        (Verbose, "at most `max_new_tokens` tokens"),
        (Lazy, "yields the index of each request once"),
        (Refusing, "the prompt '1\\+1=' has a completion; seen: too long"),
        (Eager, "make `draw` a generator"),
    ],
)
def test_a_broken_promise_of_a_sampler_is_named(broken: type[HashSampler], promise: str) -> None:
    with pytest.raises(BrokenPromiseError, match=promise):
        check_sampler(broken(), PROMPTS)


class LengthRewards:
    """Rewards a step by its length; `spoil` changes the results of a batch."""

    name = "length 1"

    def __init__(self, spoil: Any = lambda results, requests: results) -> None:
        self.spoil = spoil

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        results = [StepRewards(tuple(1 / (1 + len(step)) for step in one.steps)) for one in requests]
        spoilt: list[StepRewards] = self.spoil(results, requests)
        return spoilt

    def close(self) -> None:
        pass


def test_a_reward_model_that_keeps_its_promises_passes() -> None:
    check_reward_model(LengthRewards())


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lambda results, _: results[1:], "one result per request"),
        (lambda results, _: [StepRewards((float("nan"),)) for _ in results], "a number from 0 to 1"),
        (
            lambda results, requests: [StepRewards((0.5,) * 9 if one.steps else ()) for one in requests],
            "at most one reward, or one per step",
        ),
        (
            lambda results, _: [
                StepRewards(tuple(reward * (1 - index / 9) for reward in one.rewards))
                for index, one in enumerate(results)
            ],
            "the order of the requests changes no reward",
        ),
        (
            lambda results, requests: [
                StepRewards(tuple(reward / len(requests) for reward in one.rewards)) for one in results
            ],
            "the other requests of a batch change no reward",
        ),
    ],
)
def test_a_broken_promise_of_a_reward_model_is_named(spoil: Any, promise: str) -> None:
    with pytest.raises(BrokenPromiseError, match=promise):
        check_reward_model(LengthRewards(spoil))


class SameText:
    """A response is right if it is the reference; `spoil` changes the judgements of a batch."""

    version = "same text 1"
    compares_answers = True

    def __init__(self, spoil: Any = lambda judgements: judgements) -> None:
        self.spoil = spoil

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        return [ReferenceKind.WORDS for _ in requests]

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        return [
            AnswerPair(one.response, one.reference, judgement.cause, b"0123456789abcdef")
            for one, judgement in zip(requests, self.verify(requests), strict=True)
        ]

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        yield from ()

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        causes = (Cause.CORRECT if one.response == one.reference else Cause.INCORRECT for one in requests)
        spoilt: list[Judgement] = self.spoil([Judgement(cause) for cause in causes])
        return spoilt

    def close(self) -> None:
        pass


RIGHT, WRONG = [VerificationRequest("yes", "yes")], [VerificationRequest("no", "yes")]


def test_a_verifier_that_keeps_its_promises_passes() -> None:
    check_verifier(SameText(), RIGHT, WRONG)


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lambda judgements: judgements[1:], "one judgement per request"),
        (
            lambda judgements: [Judgement(Cause.CORRECT) for _ in judgements],
            "the response 'no' is not correct",
        ),
        (
            lambda judgements: [Judgement(Cause.INCORRECT) for _ in judgements],
            "the response 'yes' is correct",
        ),
        (
            lambda judgements: judgements if len(judgements) == 2 else [Judgement(Cause.TIMED_OUT)],
            "the other requests of a batch change no verdict",
        ),
        (
            lambda judgements: (
                judgements if len(judgements) < 3 else [Judgement(Cause.CRASHED)] * len(judgements)
            ),
            "hostile responses change no other verdict",
        ),
    ],
)
def test_a_broken_promise_of_a_verifier_is_named(spoil: Any, promise: str) -> None:
    with pytest.raises(BrokenPromiseError, match=promise):
        check_verifier(SameText(spoil), RIGHT, WRONG)
