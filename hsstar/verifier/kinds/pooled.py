"""What runs in checking processes: kinds whose check may hang, and patterns of a recipe."""

import json
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import KindSettings
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import BaseVerifier, version_of
from hsstar.verifier.pool import Failure, Outcome
from hsstar.verifier.pool_processes import PoolOptions, Task
from hsstar.verifier.pool_thread import PoolThread

CAUSE_OF_FAILURE = {Failure.TIMED_OUT: Cause.TIMED_OUT, Failure.CRASHED: Cause.CRASHED}

_PATTERN_SECONDS, _PATTERN_MEMORY_MB = 1.0, 512


def processes_or_default(processes: int | None) -> int:
    """Return how many checking processes a verifier has; by default one per core, at least two."""
    return processes or max(2, os.cpu_count() or 1)


def result_of(outcome: Outcome) -> CheckResult:
    """Return what a task has found: `{"cause": …, "detail": …}`, or why it has not."""
    if isinstance(outcome, Failure):
        return CheckResult(CAUSE_OF_FAILURE[outcome], f"the check {outcome.value}")
    try:
        found = json.loads(outcome)
        return CheckResult(Cause(found["cause"]), found.get("detail"))
    except (ValueError, TypeError, KeyError):  # the code that it runs wrote into its channel
        return CheckResult(Cause.CHECK_FAILED, f"the check answered {outcome[:200]!r}")


class PooledVerifier(BaseVerifier):
    """A kind that decides each pair by a task of a checking process."""

    compares_answers = False

    def __init__(self, settings: KindSettings, options: PoolOptions) -> None:
        self._settings = settings
        self._pool = PoolThread(options)

    @property
    def version(self) -> str:
        """Names kind and settings."""
        return version_of(self._settings)

    @abstractmethod
    def task(self, answer: str | None, request: VerificationRequest) -> Task:
        """Return the task that decides a request."""

    def check(self) -> None:
        """Load what tasks need. Raise MissingDependencyError if that fails."""
        self._pool.start()

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Decide open pairs, each different key once; raise EngineError if no process starts."""
        different = list({pair.key: pair for pair in pairs if pair.request is not None}.values())
        tasks = [self.task(pair.answer, pair.request) for pair in different if pair.request is not None]
        for index, outcome in self._pool.run(tasks, 0.0):
            yield different[index].key, result_of(outcome)

    def close(self) -> None:
        """End the checking processes; a verification in another thread ends with an error."""
        self._pool.close()


class PatternSearch:
    """Look for patterns in texts; one that hangs is ended after a second of processor time."""

    def __init__(self, processes: int | None = None) -> None:
        module = "hsstar.verifier.kinds.pattern_task"
        self._pool = PoolThread(
            PoolOptions(
                module, {}, "re", processes_or_default(processes), _PATTERN_SECONDS, _PATTERN_MEMORY_MB
            )
        )

    def find(
        self, searches: Sequence[tuple[str, str]], *, whole: bool = False, ignore_case: bool = False
    ) -> Iterator[tuple[int, str | CheckResult]]:
        """Yield the index of each (pattern, text) with what was found, as soon as that is known.

        The last match counts, of it the first group if there is one; with `whole` the pattern has to match
        all of the text. A CheckResult says why nothing was found.
        """
        tasks = [
            {"pattern": pattern, "text": text, "whole": whole, "ignore_case": ignore_case}
            for pattern, text in searches
        ]
        for index, outcome in self._pool.run(tasks, 0.0):
            if isinstance(outcome, Failure):
                yield index, CheckResult(CAUSE_OF_FAILURE[outcome], f"the pattern {outcome.value}")
            else:
                found = json.loads(outcome)
                yield index, found["found"] if "found" in found else result_of(outcome)

    def close(self) -> None:
        """End the checking processes."""
        self._pool.close()
