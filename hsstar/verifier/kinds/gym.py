"""`gym`: reasoning-gym's own scorer of the task that made a problem."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from hsstar.domain.verdict import Cause
from hsstar.domain.verification import GymSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import final_answer, key_of, version_of
from hsstar.verifier.kinds.pooled import PooledVerifier, processes_or_default, result_of
from hsstar.verifier.pool_processes import PoolOptions, Task
from hsstar.verifier.references import ReferenceKind

_MODULE = "hsstar.verifier.kinds.gym_task"


class GymVerifier(PooledVerifier):
    """Make the problem again by its id, and score the final answer (contract `Verifier`)."""

    def __init__(self, settings: GymSettings, processes: int | None = None) -> None:
        setup = {"threshold": settings.threshold}
        options = PoolOptions(
            _MODULE,
            setup,
            "reasoning-gym",
            processes_or_default(processes),
            settings.deadline_seconds,
            settings.memory_limit_mb,
        )
        super().__init__(settings, options)

    @property
    def version(self) -> str:
        """Names kind, settings and the version of reasoning-gym."""
        return version_of(self._settings, _installed())

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Extract the answers; a response without one is decided."""
        return [self._pair(request) for request in requests]

    def task(self, answer: str | None, request: VerificationRequest) -> Task:
        """Return the task that scores an answer."""
        return {
            "answer": answer or "",
            "problem": request.problem,
            "source_id": request.source_id or "",
            "is_reference": False,
        }

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """A reference has to get the score that an answer needs, and its problem to be made again."""
        tasks = [{**self.task(one.reference, one), "is_reference": True} for one in requests]
        kinds = {Cause.CORRECT: ReferenceKind.VALUE, Cause.INCORRECT: ReferenceKind.INCONSISTENT}
        examined = [ReferenceKind.UNREADABLE] * len(requests)
        for index, outcome in self._pool.run(tasks, 0.0):
            examined[index] = kinds.get(result_of(outcome).cause, ReferenceKind.UNREADABLE)
        return examined

    def _pair(self, request: VerificationRequest) -> AnswerPair:
        answer = final_answer(request, whole=True)
        texts = (answer or "", request.reference, request.problem, request.source_id or "")
        cause = Cause.NO_ANSWER if answer is None else None
        return AnswerPair(
            answer, request.reference, cause, key_of(str(answer is None), *texts), request=request
        )


@cache
def _installed() -> str:
    try:
        return version("reasoning-gym")
    except PackageNotFoundError:
        return "not installed"
