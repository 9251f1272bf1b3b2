"""A worker whose engines only wait, as long as a simulated fleet says: python -m bench.fleet_worker ROLE NAME

Claims, writes, heartbeats and messages are the product's. HSSTAR_BENCHMARK_ENGINES holds the engines' times.
"""

import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.fleet_model import Engines
from bench.queue_store import InstantEngine, context_of
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.workers.__main__ import work

ENGINES = "HSSTAR_BENCHMARK_ENGINES"


class WaitingEngine(InstantEngine):
    """A sampler, verifier and reward model that answers when a simulated one would; one job at a time."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._turn = threading.Lock()

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Yield responses one after the other, each after the time of its tokens."""
        engines = self._engines
        with self._turn:
            ready = time.monotonic()
            for index, completion in super().draw(requests, parameters):
                assert isinstance(completion, Completion)
                generator = random.Random(requests[index].seed)
                factor = math.exp(generator.gauss(-(engines.spread**2) / 2, engines.spread))
                tokens = max(1, round(engines.tokens * factor))
                ready += tokens / engines.tokens_per_second
                time.sleep(max(0.0, ready - time.monotonic()))
                yield index, replace(completion, tokens=tokens)

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Wait, and call every other sample correct."""
        time.sleep(self._engines.verify_seconds * len(requests))
        return super().prepare(requests)

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Wait, and give every step the same reward."""
        time.sleep(self._engines.score_seconds * len(requests))
        return super().score(requests)


def make_context(settings: Settings, database: Database, worker: str) -> WorkerContext:
    """Return the context of a worker whose engines wait."""
    return context_of(WaitingEngine(Engines(**json.loads(os.environ[ENGINES]))), settings, database)


if __name__ == "__main__":
    role, name = sys.argv[1:]
    sys.exit(work(role, name, make_context))
