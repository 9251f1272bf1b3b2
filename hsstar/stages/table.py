"""Which stage runs which kind of job."""

from collections.abc import Callable

from hsstar.domain.lifecycle import JobKind
from hsstar.stages import sample, score, train, verify
from hsstar.stages.context import Workshop
from hsstar.store.jobs import Job

Stage = Callable[[Workshop, Job], list[int]]

STAGES: dict[JobKind, Stage] = {
    JobKind.SAMPLE: sample.run,
    JobKind.VERIFY: verify.run,
    JobKind.SCORE: score.run,
    JobKind.TRAIN: train.run,
}
"""A stage writes its results, under the job's lease, and the end of the job; it returns the problem ids."""
