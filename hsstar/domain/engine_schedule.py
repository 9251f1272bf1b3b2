"""Which job comes next where one engine at a time has room: the same engine while it has work, within bounds.

Changing the engine costs as much as many jobs, so a worker stays with the one it has while jobs for it are
queued. Jobs of other engines that have waited long make it change all the same, but not before the present
engine has been in place as long; so no job waits for ever, and the engines never take turns job by job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.domain.lifecycle import JobKind


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What decides which engine a job needs.

    Attributes:
        kind: the job's.
        model_id: the policy or reward model; None for a trainer, which loads one for each job.
    """

    kind: JobKind
    model_id: int | None = None


VERIFIER = EngineKey(JobKind.VERIFY)
"""Takes room from no other engine."""


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """The queued jobs of one engine.

    Attributes:
        job_id: the one that has waited longest.
        seconds: how long it has.
    """

    engine: EngineKey
    job_id: int
    seconds: float


def next_job(
    waiting: Sequence[WaitingJobs], present: EngineKey | None, present_seconds: float, patience_seconds: float
) -> WaitingJobs | None:
    """The job to run next; None where none waits.

    Args:
        waiting: the queued jobs, by engine.
        present: the engine in place.
        present_seconds: since when.
        patience_seconds: how long jobs of other engines wait while the present one has work.
    """
    if not waiting:
        return None
    staying = [jobs for jobs in waiting if jobs.engine in (present, VERIFIER)]
    if any(jobs.engine == present for jobs in staying):
        others = [jobs.seconds for jobs in waiting if jobs not in staying]
        if present_seconds < patience_seconds or max(others, default=0.0) < patience_seconds:
            return _oldest(staying)
        return _oldest([jobs for jobs in waiting if jobs not in staying])
    return _oldest(waiting)


def _oldest(waiting: Sequence[WaitingJobs]) -> WaitingJobs:
    return max(waiting, key=lambda jobs: (jobs.seconds, -jobs.job_id))
