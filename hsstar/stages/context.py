"""What a stage works with: the rows of its job, and the database and engines of its process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from hsstar.domain.answers.thinking import marks_of
from hsstar.domain.benchmarks import Decoding
from hsstar.domain.errors import EngineDeadError, EngineError, EngineMemoryError
from hsstar.domain.seeds import continuation_seed, evaluation_seed, slot_seed, source_seed
from hsstar.engines.sampling.contract import SamplingParameters
from hsstar.recipe.recipe import Recipe
from hsstar.stages.engine_pool import EnginePool
from hsstar.stages.progress import Progress
from hsstar.stages.spans import OpenSpan, no_span
from hsstar.store import evaluations, models, rounds, runs, sources
from hsstar.store.database import Database
from hsstar.store.queue.jobs import Job, fence
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from hsstar.store.samples import Slot

_SEEDS = {"iteration": slot_seed, "evaluation": evaluation_seed, "steps": continuation_seed}
"""By kind of round of the run's own policy."""


class ComputeError(EngineError):
    """An engine failed on the items of a job; one of them may be the cause."""


@contextmanager
def computing() -> Iterator[None]:
    """Turn errors of a block into ComputeError, except those of the engine as a whole."""
    try:
        yield
    except (EngineDeadError, EngineMemoryError):
        raise
    except Exception as error:  # engines raise anything; the worker decides what follows
        raise ComputeError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class JobContext:
    """The run and round of a job, its policy, and the recipe by which that is sampled.

    `evaluated` is an evaluation's decoding, `source` the name of what draws beside the run's policy.
    """

    run: Run
    round: Round
    policy: models.Model
    recipe: Recipe
    evaluated: Decoding | None
    source: str | None

    def parameters_of(self, slot: Slot) -> SamplingParameters:
        """Return how a slot is sampled: as the evaluation says, else as the recipe does for its wave."""
        sampling, policy, evaluated = self.recipe.sampling, self.recipe.policy, self.evaluated
        settings = evaluated or sampling
        return SamplingParameters(
            temperature=evaluated.temperature if evaluated else sampling.temperature_of(slot.wave),
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            stop=sampling.stop,
            stop_token_ids=sampling.stop_token_ids,
            top_k=settings.top_k,
            min_p=settings.min_p,
            repetition_penalty=settings.repetition_penalty,
            thinking=marks_of(policy.thinking),
            thinking_tokens=policy.thinking_tokens or 0,
        )

    def seed_of(self, slot: Slot) -> int:
        """Return the seed of the sample at a slot of the round."""
        seed, number = self.recipe.seed, self.round.number
        if self.source is not None:
            return source_seed(seed, self.source, number, slot.problem_key, slot.slot)
        return _SEEDS[self.round.kind](seed, number, slot.problem_key, slot.slot)


def load_context(connection: Connection, job: Job) -> JobContext:
    """Read the run, round and policy of a job; raise LeaseLostError if it is another's, or withdrawn."""
    fence(connection, job)
    return context_of(connection, rounds.get_round(connection, job.round_id))


def context_of(connection: Connection, of: Round) -> JobContext:
    """Read what the samples of a round are drawn by."""
    run = runs.get_run(connection, of.run_id)
    policy = models.get_model(connection, of.model_id if of.model_id is not None else run.model_id)
    source = sources.find_section(connection, run, of)
    recipe = run.recipe if source is None else run.recipe.drawn_by(source)
    decoding = evaluations.find_decoding(connection, of.id)
    return JobContext(run, of, policy, recipe, decoding, source.name if source else None)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker process works with; `job_samples` is the number of samples of a follow-up job."""

    database: Database
    engines: EnginePool
    job_samples: int
    models_folder: Path
    progress: Progress = field(default_factory=Progress)
    span: OpenSpan = no_span
