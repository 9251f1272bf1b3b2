"""What every stage needs to know of its job, and the engines that its process keeps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.engines.checkpoints import fingerprint, resolve
from hsstar.engines.contracts import ProcessRewardModel, Sampler, Trainer, Verifier
from hsstar.recipe import Recipe
from hsstar.store import models, rounds, runs
from hsstar.store.database import Database
from hsstar.store.jobs import Job
from hsstar.store.rounds import Round
from hsstar.store.runs import Run


class ComputeError(EngineError):
    """An engine failed on the items of a job; one of them may be the cause."""


@contextmanager
def computing() -> Iterator[None]:
    """Marks the part of a stage whose failure may lie in a single item of the job."""
    try:
        yield
    except Exception as error:  # whatever an engine raises; the worker decides what follows
        raise ComputeError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class JobContext:
    """The run and the round that a job belongs to, and the policy of that round."""

    run: Run
    round: Round
    policy: models.Model

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.run.recipe


def checkpoint_of(registered: models.Model | models.RewardModel) -> Path:
    """The folder of a policy or reward model, whose content has to be what was registered.

    Raises:
        CheckpointError: it is gone, or holds other weights by now.
    """
    folder = resolve(registered.location)
    if fingerprint(folder) != registered.fingerprint:
        raise CheckpointError(
            f"{registered.location} no longer holds the weights that were registered as {registered.name!r}; "
            "put them back, or create a new run"
        )
    return folder


def load_context(connection: Connection, job: Job) -> JobContext:
    """Reads what a job belongs to."""
    of_job = rounds.get_round(connection, job.round_id)
    run = runs.get_run(connection, of_job.run_id)
    policy = models.get_model(connection, of_job.model_id if of_job.model_id is not None else run.model_id)
    return JobContext(run, of_job, policy)


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
    """The engines that one process keeps: at most one of each kind, built when first needed."""

    def __init__(
        self,
        build_sampler: Callable[[str, Recipe], Sampler],
        build_reward_model: Callable[[str, Recipe], ProcessRewardModel],
        build_verifier: Callable[[], Verifier],
        build_trainer: Callable[[], Trainer],
    ) -> None:
        self._build_sampler = build_sampler
        self._build_reward_model = build_reward_model
        self._build_verifier = build_verifier
        self._build_trainer = build_trainer
        self._sampler: tuple[object, Sampler] | None = None
        self._reward_model: tuple[object, ProcessRewardModel] | None = None
        self._verifier: Verifier | None = None
        self._trainer: Trainer | None = None

    def sampler(self, policy: models.Model, recipe: Recipe) -> Sampler:
        """The sampler for this policy; one for another policy is closed first."""
        wanted = (policy.fingerprint, policy.location, recipe.policy)
        if self._sampler is None or self._sampler[0] != wanted:
            if self._sampler is not None:
                self._sampler[1].close()
                self._sampler = None
            self._sampler = (wanted, self._build_sampler(str(checkpoint_of(policy)), recipe))
        return self._sampler[1]

    def reward_model(self, registered: models.RewardModel, recipe: Recipe) -> ProcessRewardModel:
        """The process reward model of this registration; another one is closed first."""
        wanted = (registered.fingerprint, registered.location, recipe.reward)
        if self._reward_model is None or self._reward_model[0] != wanted:
            if self._reward_model is not None:
                self._reward_model[1].close()
                self._reward_model = None
            self._reward_model = (wanted, self._build_reward_model(str(checkpoint_of(registered)), recipe))
        return self._reward_model[1]

    def verifier(self) -> Verifier:
        """The verifier of this process."""
        if self._verifier is None:
            self._verifier = self._build_verifier()
        return self._verifier

    def trainer(self) -> Trainer:
        """The trainer of this process."""
        if self._trainer is None:
            self._trainer = self._build_trainer()
        return self._trainer

    def close(self) -> None:
        """Closes whatever was built."""
        for engine in (self._sampler, self._reward_model):
            if engine is not None:
                engine[1].close()
        if self._verifier is not None:
            self._verifier.close()
        self._sampler = self._reward_model = self._verifier = self._trainer = None
