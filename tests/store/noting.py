"""Small engines that note what a stage hands them; every answer follows from that alone, and no two agree."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.seeds import derived_seed
from hsstar.domain.verification import KindSettings
from hsstar.engines.rewards.contract import ProcessRewardModel, RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.engines.training.contract import (
    ProgressCallback,
    Trainer,
    TrainingReport,
    TrainingSaved,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)
from hsstar.engines.training.resume import WRITING, publish, step_of
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import RewardSection
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.verifier.contract import Verifier

POLICY, REWARD_MODEL = "builtin:demo-policy", "builtin:demo-prm"
NOWHERE = Path("/nonexistent")


def completion_of(weights: str, request: SampleRequest) -> Completion:
    """What `NotingSampler` draws."""
    seed = request.seed
    text = f"by {weights}: {seed}"
    return Completion(text, seed % 9973, "length" if seed % 2 else "stop", -(seed % 997) / 8, seed % 991 / 16)


class NotingSampler:
    """Draws the last request first, from the weights that it has then; a gate is met after so many."""

    name = "noting 2"

    def __init__(
        self, folder: str | Path = POLICY, gates: Mapping[int, threading.Event] | None = None
    ) -> None:
        self._weights = fingerprint(resolve(folder))
        self._gates = gates or {}
        self.requests: list[SampleRequest] = []
        self.parameters: list[SamplingParameters] = []
        self.abandoned = False

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        self.requests.extend(requests)
        self.parameters.append(parameters)
        try:
            for number, index in enumerate(reversed(range(len(requests)))):
                if number in self._gates:
                    self._gates[number].wait()
                yield index, completion_of(self._weights, requests[index])
        except GeneratorExit:
            self.abandoned = True
            raise

    def reload(self, model: Path) -> None:
        self._weights = fingerprint(model)

    def close(self) -> None:
        pass


def rewards_of(request: RewardRequest) -> StepRewards:
    """What `NotingRewardModel` thinks of a response; three steps fill its context."""
    seeds = [derived_seed(0, request.problem, place, step) for place, step in enumerate(request.steps)]
    rewards = [seed % 65_537 / 65_537 for seed in seeds]
    return StepRewards(tuple(rewards[:3]), truncated=len(rewards) > 3)


class NotingRewardModel:
    """A reward follows from the problem, the place of the step and its text."""

    name = "noting 2"

    def __init__(self, folder: str, section: RewardSection) -> None:
        self.folder, self.section = folder, section
        self.requests: list[RewardRequest] = []
        self.fails_with: Exception | None = None
        self.closed = False

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        self.requests.extend(requests)
        if self.fails_with is not None:
            raise self.fails_with
        return [rewards_of(request) for request in requests]

    def close(self) -> None:
        self.closed = True


class NotingTrainer:
    """Six steps, with an intermediate checkpoint after each second one; `after_step` may disturb it."""

    layout = "one process"
    STEPS = 6

    def __init__(self, after_step: Callable[[int], None] = lambda step: None) -> None:
        self.after_step = after_step
        self.tasks: list[TrainingTask] = []

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        self.tasks.append(task)
        point = task.resume_point
        assert point is not None and progress is not None
        begin = step_of(point.checkpoint) if point.checkpoint else 0
        lengths = {"prompt": {"min": 3, "max": 40}}
        progress(
            TrainingStart(
                self.STEPS,
                begin,
                len(task.rows),
                truncated=4,
                left_out={"equal responses": 1},
                lengths=lengths,
            )
        )
        for step in range(begin + 1, self.STEPS + 1):
            self.after_step(step)
            progress(TrainingStep(step, self.STEPS, metrics_of(step)))
            if step % 2 == 0:
                written = point.folder / WRITING / str(step)
                written.mkdir(parents=True)
                publish(point, written, step)
                progress(TrainingSaved(step))
        shutil.copytree(task.policy, task.output)
        with (task.output / "model.safetensors").open("ab") as weights:
            weights.write(b"trained")
        return TrainingReport(task.output, len(task.rows), 5, self.STEPS, {"loss": 0.25, "last/loss": 0.125})


METRICS = """
    loss rewards/chosen rewards/rejected rewards/margins rewards/accuracies logps/chosen logps/rejected
    kl mean_token_accuracy grad_norm learning_rate tokens_per_second entropy
"""


def metrics_of(step: int) -> dict[str, float]:
    """What `NotingTrainer` tells of a step, by TRL's names; one of them is not recorded."""
    return {name: step + place / 16 for place, name in enumerate(METRICS.split())}


def make_context(
    database: Database,
    *,
    sampler: Callable[[str, Recipe], Sampler] | None = None,
    reward_model: Callable[[str, RewardSection], ProcessRewardModel] | None = None,
    verifier: Callable[[KindSettings], Verifier] | None = None,
    trainer: Trainer | None = None,
    job_samples: int = 256,
    models_folder: Path = NOWHERE,
    one_at_a_time: bool = False,
) -> WorkerContext:
    """A worker with these engines; a stage that asks for another one fails."""

    def unwanted(*arguments: object) -> Any:
        raise AssertionError("the stage needs no such engine")

    builders = (sampler or unwanted, reward_model or unwanted, verifier or unwanted)
    train = (lambda: trainer) if trainer is not None else unwanted
    engines = EnginePool(*builders, train, one_at_a_time=one_at_a_time)
    return WorkerContext(database, engines, job_samples, models_folder)
