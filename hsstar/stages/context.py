"""What every stage needs to know of its job, and the engines that its process keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.domain.benchmarks import Decoding
from hsstar.domain.errors import EngineDeadError, EngineError, EngineMemoryError
from hsstar.engines.sampling.contract import SamplingParameters
from hsstar.recipe.recipe import Recipe
from hsstar.stages.engine_pool import Engines
from hsstar.store import evaluations, models, rounds, runs
from hsstar.store.database import Database
from hsstar.store.queue.jobs import Job
from hsstar.store.rounds import Round
from hsstar.store.runs import Run


class ComputeError(EngineError):
    """An engine failed on the items of a job; one of them may be the cause."""


@contextmanager
def computing() -> Iterator[None]:
    """Marks the part of a stage whose failure may lie in a single item of the job.

    What concerns the engine as a whole passes as it is.
    """
    try:
        yield
    except (EngineDeadError, EngineMemoryError):
        raise
    except Exception as error:  # whatever an engine raises; the worker decides what follows
        raise ComputeError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class JobContext:
    """The run and the round that a job belongs to, and the policy of that round.

    Attributes:
        evaluated: how an evaluation is decoded; None for an iteration.
    """

    run: Run
    round: Round
    policy: models.Model
    evaluated: Decoding | None = None

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe

    @property
    def parameters(self) -> SamplingParameters:
        """How the samples of the round are drawn: as the evaluation says, else as the recipe does."""
        settings = self.evaluated or self.recipe.sampling
        return SamplingParameters(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            stop=self.recipe.sampling.stop,
        )


def load_context(connection: Connection, job: Job) -> JobContext:
    """Reads what a job belongs to."""
    of_job = rounds.get_round(connection, job.round_id)
    run = runs.get_run(connection, of_job.run_id)
    policy = models.get_model(connection, of_job.model_id if of_job.model_id is not None else run.model_id)
    return JobContext(run, of_job, policy, evaluations.find_decoding(connection, of_job.id))


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a stage works with: the database, the engines of this process, and its settings.

    Attributes:
        job_samples: samples per follow-up job.
        models_folder: where new checkpoints go.
    """

    database: Database
    engines: Engines
    job_samples: int
    models_folder: Path
