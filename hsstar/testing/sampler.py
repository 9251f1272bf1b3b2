"""What every sampler promises (`hsstar.engines.sampling.contract.Sampler`)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

from hsstar.domain.seeds import slot_seed
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.testing.promises import demand

_USUAL = SamplingParameters(temperature=0.8, top_p=0.95, max_new_tokens=24)
_REQUESTS = 16


def check_sampler(sampler: Sampler, prompts: Sequence[str], parameters: SamplingParameters = _USUAL) -> None:
    """Draw some 150 completions from a sampler; raise BrokenPromiseError where it breaks a promise.

    `prompts` are at least one that the policy completes, best of different lengths. The temperature of
    `parameters` has to be above 0. The sampler stays open; `reload` is not called.
    """
    requests = [
        SampleRequest(prompts[n % len(prompts)], slot_seed(1, 0, str(n), n)) for n in range(_REQUESTS)
    ]
    together = _draw(sampler, requests, parameters)
    _check_completions(together, parameters)
    _check_independence(sampler, requests, parameters, together)
    _check_seeds(sampler, prompts[0], parameters)
    _check_stop(sampler, requests, parameters, together)
    _check_abandoned(sampler, requests, parameters, together)
    demand(_draw(sampler, [], parameters) == [], "no request gives no result")
    demand(bool(sampler.name.strip()), "the name says engine and version")


def _check_completions(completions: Sequence[Completion], parameters: SamplingParameters) -> None:
    for one in completions:
        demand(
            0 <= one.tokens <= parameters.max_new_tokens,
            "a completion has at most `max_new_tokens` tokens",
            one,
        )
        demand(one.finish_reason in ("stop", "length"), "a completion ends by `stop` or `length`", one)
        logprob = one.cumulative_logprob
        demand(logprob is None or logprob <= 0, "a log-probability is at most 0", one)
        demand(one.milliseconds >= 0, "a completion takes at least no time", one)


def _check_independence(
    sampler: Sampler,
    requests: Sequence[SampleRequest],
    parameters: SamplingParameters,
    together: Sequence[Completion],
) -> None:
    backwards = _draw(sampler, requests[::-1], parameters)[::-1]
    _demand_same(backwards, together, "the order of the requests changes no completion")
    alone = [_draw(sampler, [request], parameters)[0] for request in requests[:4]]
    _demand_same(alone, together[:4], "the other requests of a draw change no completion")
    with ThreadPoolExecutor(2) as threads:
        halves = list(
            threads.map(lambda part: _draw(sampler, part, parameters), (requests[::2], requests[1::2]))
        )
    for half, expected in zip(halves, (together[::2], together[1::2]), strict=True):
        _demand_same(half, expected, "two threads that draw at once get what each gets alone")


def _check_seeds(sampler: Sampler, prompt: str, parameters: SamplingParameters) -> None:
    seeds = [SampleRequest(prompt, seed) for seed in range(8)]
    drawn = {one.text for one in _draw(sampler, seeds, parameters)}
    demand(len(drawn) > 1, "at a temperature above 0 the seed decides a completion", drawn)
    greedy = {one.text for one in _draw(sampler, seeds, replace(parameters, temperature=0.0, top_p=1.0))}
    demand(len(greedy) == 1, "at temperature 0 the seed decides nothing", greedy)


def _check_stop(
    sampler: Sampler,
    requests: Sequence[SampleRequest],
    parameters: SamplingParameters,
    together: Sequence[Completion],
) -> None:
    longest = max((one.text for one in together), key=len)
    demand(len(longest) > 1, "a completion has text (choose other prompts, or more new tokens)")
    middle = len(longest) // 2
    stop = longest[middle : middle + 2].encode("utf-8", "ignore").decode()
    for one, free in zip(_draw(sampler, requests, replace(parameters, stop=(stop,))), together, strict=True):
        place = free.text.find(stop)
        expected = (free.text, free.finish_reason) if place < 0 else (free.text[:place], "stop")
        demand(
            (one.text, one.finish_reason) == expected,
            f"a completion ends before the stop string {stop!r}",
            one,
        )


def _check_abandoned(
    sampler: Sampler,
    requests: Sequence[SampleRequest],
    parameters: SamplingParameters,
    together: Sequence[Completion],
) -> None:
    draw = sampler.draw(requests, parameters)
    demand(hasattr(draw, "close"), "a draw can be closed: make `draw` a generator")
    with closing(cast(Any, draw)):
        next(draw)
    again = _draw(sampler, requests[:4], parameters)
    _demand_same(again, together[:4], "a draw that is closed early leaves the sampler usable")


def _draw(
    sampler: Sampler, requests: Sequence[SampleRequest], parameters: SamplingParameters
) -> list[Completion]:
    """Return the completions of a draw in the order of the requests."""
    pairs = list(sampler.draw(requests, parameters))
    indices = sorted(index for index, _ in pairs)
    demand(indices == list(range(len(requests))), "a draw yields the index of each request once", indices)
    results = dict(pairs)
    completions = list[Completion]()
    for index, request in enumerate(requests):
        result = results[index]
        demand(isinstance(result, Completion), f"the prompt {request.prompt[:40]!r} has a completion", result)
        completions.append(cast(Completion, result))
    return completions


def _demand_same(left: Sequence[Completion], right: Sequence[Completion], promise: str) -> None:
    """Compare completions; their log-probabilities up to rounding."""
    for one, other in zip(left, right, strict=True):
        mine, theirs = one.cumulative_logprob, other.cumulative_logprob
        if mine is None or theirs is None:
            near = mine is theirs
        else:
            near = abs(mine - theirs) < 1e-3 * max(1, one.tokens)
        same = near and replace(one, cumulative_logprob=other.cumulative_logprob) == other
        demand(same, promise, f"{one} and {other}")
