"""A worker with deterministic engines: `python -m tests.chaos.worker_program ROLE NAME`.

Everything else is the product's. The file `delivery` in the home says how its wake-ups leave: `once`,
`twice`, or `reverse`, by which every message overtakes those that still wait.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import hsstar.workers.background
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.training.contract import ProgressCallback, TrainingReport, TrainingTask
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.verifier.kinds import make_verifier
from hsstar.workers.__main__ import work
from hsstar.workers.messages import RedisChannel, RedisTransport
from tests.deterministic import DeterministicSampler, MarkingTrainer, ReadingRewardModel

PROXIED = "CHAOS_PROXY_URL"
"""The database as the second worker of a role reaches it."""
SAMPLE_SECONDS, SCORE_SECONDS, STEP_SECONDS = 0.008, 0.004, 0.1
SWOLLEN_BYTES = 1 << 29


def delivery() -> str:
    file = Path(os.environ["HSSTAR_HOME"], "delivery")
    return file.read_text() if file.exists() else "once"


class DisturbedChannel(RedisChannel):
    """The product's channel over Redis lists, from which messages may be taken newest first."""

    def _put(self, queue: str, message: Any, **arguments: Any) -> None:
        super()._put(queue, message, **arguments)
        if delivery() == "reverse":
            with self.conn_or_acquire() as client:
                newest = client.lpop(queue)  # put on the left, taken on the right
                if newest is not None:
                    client.rpush(queue, newest)


_send_once = hsstar.workers.background.send_wake_up  # type: ignore[attr-defined]  # an import there


def _send(app: Any, job_id: int, kind: JobKind) -> None:
    for _ in range(2 if delivery() == "twice" else 1):
        _send_once(app, job_id, kind)


class StallingSampler(DeterministicSampler):
    """Gets no further for ever, once for each time that a test asks for it."""

    def draw(self, *arguments: Any) -> Any:
        for result in super().draw(*arguments):
            hang_if_asked()
            yield result


class StallingRewardModel(ReadingRewardModel):
    """As the sampler."""

    def score(self, *arguments: Any) -> Any:
        hang_if_asked()
        return super().score(*arguments)


class SwellingTrainer(MarkingTrainer):
    """Takes more memory than it may have, once for each time that a test asks for it."""

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        if was_asked("swell"):
            bytearray(b"x" * SWOLLEN_BYTES)
        return super().train(task, progress)


def hang_if_asked() -> None:
    if was_asked("stall"):
        while True:
            time.sleep(60)


def was_asked(wish: str) -> bool:
    """Whether a test wants this, of one process alone."""
    try:
        Path(os.environ["HSSTAR_HOME"], wish).unlink()
    except FileNotFoundError:
        return False
    return True


def make_context(settings: Settings, database: Database, worker: str) -> WorkerContext:
    """A context with deterministic engines and the real verifiers."""
    engines = EnginePool(
        lambda folder, recipe: StallingSampler(folder, SAMPLE_SECONDS),
        lambda folder, recipe: StallingRewardModel(SCORE_SECONDS),
        partial(make_verifier, processes=1),
        lambda: SwellingTrainer(STEP_SECONDS),
    )
    return WorkerContext(database, engines, settings.job_samples, settings.models_dir)


if __name__ == "__main__":
    RedisTransport.Channel = DisturbedChannel
    hsstar.workers.background.send_wake_up = _send  # type: ignore[attr-defined]
    role, name = sys.argv[1:]
    if name.split("@")[0].endswith("-2"):
        os.environ["HSSTAR_DATABASE_URL"] = os.environ[PROXIED]
    sys.exit(work(role, name, make_context))
