"""Engines whose results follow from their input alone, so that any two runs can be compared to the last bit.

What they write passes through the real stages, verifier, store and queue. A sample depends on the policy's
weights, the problem and the seed; its text says how good it is, which the reward model reads. A training
marks the weights with what it was given. A script decides other outcomes. `pause` (seconds a sample, a score
or a step) gives a test time to disturb them.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.rounding import WeightUpdate
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.training.contract import (
    ProgressCallback,
    TrainingReport,
    TrainingRow,
    TrainingSettings,
    TrainingStart,
    TrainingStep,
    TrainingTask,
)

TRAINING_STEPS = 6
_STATEMENT = re.compile(r"^.*problem (\d+)", re.MULTILINE)

Script = Callable[[str, int], tuple[object, float] | None]
"""Final answer and quality of a sample by statement and seed; None where chance decides."""


def statement(number: int) -> str:
    """The problem whose answer is this number."""
    return f"The number of problem {number}"


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()


class DeterministicSampler:
    """A third of the problems is easy, a third hard, and in between chance decides."""

    name = "deterministic 1"

    def __init__(self, model: str | Path, pause: float = 0.0, script: Script | None = None) -> None:
        self._weights = fingerprint(model)
        self._pause = pause
        self._script = script or (lambda statement, seed: None)

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        for index, request in enumerate(requests):
            time.sleep(self._pause)
            yield index, self._complete(request.prompt, request.seed)

    def _complete(self, prompt: str, seed: int) -> Completion:
        found = _STATEMENT.search(prompt)
        assert found is not None, prompt
        number = int(found[1])
        chance = _digest(self._weights, number, seed)
        right = (True, chance[0] % 2 == 0, False)[number % 3]
        quality = (0.9, chance[1] / 255, 0.02)[number % 3]
        answer: object = number if right else number + 1 + chance[2] % 9
        answer, quality = self._script(found[0], seed) or (answer, quality)
        text = f"quality {quality:.3f} by {self._weights[:6]}\n\nso \\boxed{{{answer}}}"
        return Completion(text, 5 + chance[3], "stop", -chance[4] / 16, 1.0)

    def reload(self, model: Path) -> None:
        self._weights = fingerprint(model)

    def close(self) -> None:
        pass


class ReadingRewardModel:
    """Every step is as good as the text says."""

    name = "reading 1"

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        scores = []
        for request in requests:
            time.sleep(self._pause)
            quality = float(request.steps[0].split()[1])
            scores.append(StepRewards((quality, *(1.0 for _ in request.steps[1:]))))
        return scores

    def close(self) -> None:
        pass


def mark(policy: Path, settings: TrainingSettings, rows: Sequence[TrainingRow]) -> bytes:
    """Return the last bytes of the weights that `MarkingTrainer` makes; a setting's default changes none."""
    chosen = {
        field.name: value
        for field in fields(settings)
        if (value := getattr(settings, field.name)) != field.default
    }
    return _digest(fingerprint(policy), chosen, *rows)


UPDATES = tuple(
    WeightUpdate(layer, number_format, 100, 0.5, changed, kept, cosine)
    for layer in ("all", "model.norm")
    for number_format, changed, kept, cosine in (
        ("bfloat16", 0.01, 0.04, 0.2),
        ("float16", 0.25, 0.75, 0.9),
        ("float32", 1.0, 1.0, 1.0),
    )
)


class MarkingTrainer:
    """Copies the policy, marks its weights with what it was trained on, and says that it made `UPDATES`."""

    layout = "one process"

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        tell = progress or (lambda event: None)
        tell(TrainingStart(TRAINING_STEPS, 0, len(task.rows), 0, {}, {}))
        for step in range(1, TRAINING_STEPS + 1):
            time.sleep(self._pause)
            tell(TrainingStep(step, TRAINING_STEPS, {"loss": 0.5}))
        shutil.copytree(task.policy, task.output)
        weights = task.output / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-32] + mark(task.policy, task.settings, task.rows))
        return TrainingReport(task.output, len(task.rows), 0, TRAINING_STEPS, {"loss": 0.5}, UPDATES)
