"""`python`: a function of the user's own decides, in a process of its own for each response."""

import re
from collections.abc import Sequence
from functools import cached_property

from hsstar.domain.verification import PythonSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import final_answer, key_of, version_of
from hsstar.verifier.kinds.pooled import PooledVerifier, processes_or_default
from hsstar.verifier.kinds.sources import source_of
from hsstar.verifier.pool_processes import PoolOptions, Task

_MODULE = "hsstar.verifier.kinds.python_task"
_WALL_FACTOR = 10.0
_START_SECONDS = 60.0


class PythonVerifier(PooledVerifier):
    """Ask a function (contract `Verifier`). What it changes, prints or forks reaches no other response."""

    def __init__(self, settings: PythonSettings, processes: int | None = None) -> None:
        self._function = settings.function
        self._source = settings.source
        setup = {
            "function": settings.function,
            "source": settings.source,
            "signature": settings.signature,
            "data_source": settings.data_source,
            "threshold": settings.threshold,
        }
        options = PoolOptions(
            _MODULE,
            setup,
            settings.function,
            processes_or_default(processes),
            settings.deadline_seconds,
            settings.memory_limit_mb,
            one_task_each=True,
            wall_factor=_WALL_FACTOR,
            start_seconds=_START_SECONDS,
        )
        super().__init__(settings, options)

    @cached_property
    def version(self) -> str:
        """Names the function, and a digest of settings and source."""
        name = re.sub(r"\s", "", self._function)
        return f"{name} {version_of(self._settings, source_of(self._function, self._source))}"

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Leave all to the function; the final answer, if there is one, is what votes are about."""
        return [
            AnswerPair(
                final_answer(request),
                request.reference,
                None,
                key_of(request.response, request.reference, request.problem),
                request=request,
            )
            for request in requests
        ]

    def task(self, answer: str | None, request: VerificationRequest) -> Task:
        """Return the task that asks the function about a response."""
        return {"response": request.response, "reference": request.reference, "problem": request.problem}

    def check(self) -> None:
        """Load the function and look at its parameters; raise EngineError, in one line, if it is none."""
        _ = self.version
        self._pool.start()
