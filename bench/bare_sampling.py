"""Sampling without the queue: processes with an engine each, which draw what they are handed."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain

from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.recipe.recipe import Recipe

Calls = list[list[SampleRequest]]
Texts = dict[tuple[str, int], str]
"""Responses by prompt and seed."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one way has drawn.

    Attributes:
        begun: when the first process began, as `time.time` counts.
        processor: seconds of all processes that computed.
    """

    begun: float
    ended: float
    processor: float
    tokens: int
    texts: Texts

    @property
    def seconds(self) -> float:
        """Wall clock."""
        return self.ended - self.begun


@cache
def bare_engine(engine: str, model: str) -> Sampler:
    """The engine of a bare process."""
    return build_sampler(model, engine=engine)


def draw_calls(engine: str, model: str, calls: Calls, parameters: SamplingParameters) -> Drawn:
    """Draws call after call in a bare process."""
    sampler = bare_engine(engine, model)
    texts: Texts = {}
    tokens = 0
    begun, processor = time.time(), time.process_time()
    for requests in calls:
        for index, result in sampler.draw(requests, parameters):
            assert isinstance(result, Completion), result
            texts[requests[index].prompt, requests[index].seed] = result.text
            tokens += result.tokens
    return Drawn(begun, time.time(), time.process_time() - processor, tokens, texts)


def close_engine(engine: str, model: str) -> None:
    """Ends the engine of a bare process."""
    bare_engine(engine, model).close()


class Bare:
    """Bare processes with an engine each, which share calls evenly."""

    def __init__(self, processes: Sequence[ProcessPoolExecutor], recipe: Recipe) -> None:
        self._processes = processes
        self._policy = (recipe.policy.engine, recipe.policy.model)
        sampling = recipe.sampling
        self._parameters = SamplingParameters(
            sampling.temperature, sampling.top_p, sampling.max_new_tokens, sampling.stop
        )

    def draw(self, calls: Calls, *, at_once: bool) -> Drawn:
        """Draws calls as they are, or all that a process gets by one call."""
        number = len(self._processes)
        futures = []
        for place, process in enumerate(self._processes):
            mine = calls[place::number]
            mine = [list(chain.from_iterable(mine))] if at_once else mine
            futures.append(process.submit(draw_calls, *self._policy, mine, self._parameters))
        parts = [future.result() for future in futures]
        return Drawn(
            min(part.begun for part in parts),
            max(part.ended for part in parts),
            sum(part.processor for part in parts),
            sum(part.tokens for part in parts),
            dict(chain.from_iterable(part.texts.items() for part in parts)),
        )

    def close(self) -> None:
        """Ends the engines."""
        for process in self._processes:
            process.submit(close_engine, *self._policy).result()


@contextmanager
def bare_processes(number: int, recipe: Recipe) -> Iterator[Bare]:
    """So many processes, which load their engine with their first call."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        bare = Bare([stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(number)], recipe)
        yield bare
        bare.close()
