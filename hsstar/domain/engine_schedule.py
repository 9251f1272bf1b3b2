"""Which job comes next if memory holds one engine: the same engine's while it has work, within bounds.

Loading an engine costs as much as many jobs, so a worker keeps its engine while jobs for it are queued. It
changes the engine if jobs of another one have waited for `swap_seconds` and the present engine has been
loaded for as long. So every job starts at last, and two long queues do not change the engine at every job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.domain.lifecycle import JobKind


@dataclass(frozen=True, slots=True)
class EngineKey:
    """The engine that a job needs."""

    kind: JobKind  # the job's
    models: tuple[int, ...] = ()  # ids: the policy, or all reward models of a run


VERIFIER = EngineKey(JobKind.VERIFY)
"""Needs no memory of other engines."""


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """The queued jobs of one engine."""

    engine: EngineKey
    job_id: int  # the job that has waited longest
    seconds: float  # how long it has waited


def next_job(
    waiting: Sequence[WaitingJobs], present: EngineKey | None, present_seconds: float, swap_seconds: float
) -> WaitingJobs | None:
    """Return the job to run next; None if none waits. `present_seconds`: how long that engine is loaded."""
    if not waiting:
        return None
    staying = [jobs for jobs in waiting if jobs.engine in (present, VERIFIER)]
    if any(jobs.engine == present for jobs in staying):
        others = [jobs.seconds for jobs in waiting if jobs not in staying]
        if present_seconds < swap_seconds or max(others, default=0.0) < swap_seconds:
            return _oldest(staying)
        return _oldest([jobs for jobs in waiting if jobs not in staying])
    return _oldest(waiting)


def _oldest(waiting: Sequence[WaitingJobs]) -> WaitingJobs:
    return max(waiting, key=lambda jobs: (jobs.seconds, -jobs.job_id))
