"""What every stage needs to know of its job, and the engines that its process keeps."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.domain.benchmarks import Decoding
from hsstar.domain.errors import EngineDeadError, EngineError, EngineMemoryError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.device import clear_memory
from hsstar.engines.rewards.contract import ProcessRewardModel
from hsstar.engines.sampling.contract import Sampler, SamplingParameters
from hsstar.engines.training.contract import Trainer
from hsstar.recipe.recipe import Recipe
from hsstar.stages.checkpoint import checkpoint_of
from hsstar.stages.shared_sampler import SharedSampler
from hsstar.store import evaluations, models, rounds, runs
from hsstar.store.database import Database
from hsstar.store.jobs import Job
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from hsstar.verifier.contract import Verifier


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
    engines: "Engines"
    job_samples: int
    models_folder: Path


class Engines:
    """The engines that one process keeps: at most one of each kind, built when first needed.

    Several threads may hold the sampler; the other engines are for one job at a time.

    Attributes:
        one_at_a_time: sampler, reward model and trainer make room for each other.
    """

    def __init__(
        self,
        build_sampler: Callable[[str, Recipe], Sampler],
        build_reward_model: Callable[[str, Recipe], ProcessRewardModel],
        build_verifier: Callable[[], Verifier],
        build_trainer: Callable[[], Trainer],
        *,
        one_at_a_time: bool = False,
    ) -> None:
        self.one_at_a_time = one_at_a_time
        self._build_reward_model = build_reward_model
        self._build_verifier = build_verifier
        self._build_trainer = build_trainer
        self._sampler = SharedSampler(build_sampler)
        self._reward_model: tuple[object, ProcessRewardModel] | None = None
        self._verifier: Verifier | None = None
        self._trainer: Trainer | None = None
        self._moving = threading.Lock()
        self._present: JobKind | None = None

    def sampler(self, policy: models.Model, recipe: Recipe) -> AbstractContextManager[Sampler]:
        """The sampler of this policy for the time of a block; waits while another policy is drawn from."""
        self._make_room(JobKind.SAMPLE)
        return self._sampler.held(policy, recipe)

    def reward_model(self, registered: models.RewardModel, recipe: Recipe) -> ProcessRewardModel:
        """The process reward model of this registration; another one is closed first."""
        self._make_room(JobKind.SCORE)
        wanted = (registered.fingerprint, registered.location, recipe.reward)
        if self._reward_model is None or self._reward_model[0] != wanted:
            self.close_reward_model()
            self._reward_model = (wanted, self._build_reward_model(str(checkpoint_of(registered)), recipe))
        return self._reward_model[1]

    def close_reward_model(self) -> None:
        """Closes the process reward model, if there is one; the next job builds it anew."""
        if self._reward_model is not None:
            (_, engine), self._reward_model = self._reward_model, None
            engine.close()

    def verifier(self) -> Verifier:
        """The verifier of this process."""
        if self._verifier is None:
            self._verifier = self._build_verifier()
        return self._verifier

    def trainer(self) -> Trainer:
        """The trainer of this process."""
        self._make_room(JobKind.TRAIN)
        if self._trainer is None:
            self._trainer = self._build_trainer()
        return self._trainer

    def close(self) -> None:
        """Closes whatever was built."""
        self._sampler.close()
        self.close_reward_model()
        if self._verifier is not None:
            self._verifier.close()
        self._verifier = self._trainer = None

    def _make_room(self, kind: JobKind) -> None:
        """Frees what the jobs of another kind compute with, where there is room for one engine only."""
        if not self.one_at_a_time:
            return
        with self._moving:
            if self._present is not kind:
                self._sampler.release()
                self.close_reward_model()
                self._trainer = None
                clear_memory()
                self._present = kind
