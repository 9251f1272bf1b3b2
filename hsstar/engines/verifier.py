"""The verifier: Math-Verify in checking processes that are killed when they take too long."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from types import TracebackType
from typing import Self

from hsstar.domain.answers import extract_answer
from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause, Judgement
from hsstar.engines.contracts import VerificationRequest
from hsstar.engines.verifier_pool import CheckingPool, Failure, Outcome, Task
from hsstar.engines.verifier_rules import LONGEST_ANSWER, decide_as_text, is_number, parsable_source

RULES_VERSION = 1
"""Rises whenever the same response may get another verdict than before."""

_CAUSE_OF_FAILURE = {Failure.TIMED_OUT: Cause.TIMED_OUT, Failure.CRASHED: Cause.CRASHED}


class MathVerifier:
    """Decides whether final answers are equivalent to their references (contract `Verifier`).

    The final answer is extracted and, where its text is proof enough, judged in this process. The rest goes
    to checking processes, equal pairs of answer and reference once. A pair that takes longer than its
    deadline ends as `timed_out`, one whose process dies as `crashed`, and its neighbours notice nothing.

    Calls from several threads are served one after the other. The processes start when the first pair needs
    them, and end with `close` or with this process.

    Args:
        processes: how many checking processes work side by side.
        deadline_seconds: time for one pair, from when a process takes it.
        memory_limit_mb: address space of one checking process, in MiB.
    """

    def __init__(
        self, processes: int = 1, deadline_seconds: float = 3.0, memory_limit_mb: int = 1024
    ) -> None:
        self.version = f"math-verify {version('math-verify')}/hsstar {RULES_VERSION}"
        command = [sys.executable, "-P", "-m", "hsstar.engines.verifier_process", str(memory_limit_mb)]
        self._pool = CheckingPool(command, processes, deadline_seconds)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verifier")

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """One judgement per request, in order.

        Raises:
            EngineError: the checking processes cannot be started at all, or the verifier is closed.
        """
        answers = [_final_answer(request) for request in requests]
        causes = [
            _cause_without_algebra(answer, request.reference)
            for answer, request in zip(answers, requests, strict=True)
        ]
        open_pairs = [
            (answer, request.reference)
            for answer, request, cause in zip(answers, requests, causes, strict=True)
            if cause is None and answer is not None
        ]
        compared = self._compare(open_pairs)
        return [
            Judgement(cause or compared[answer or "", request.reference], answer)
            for answer, request, cause in zip(answers, requests, causes, strict=True)
        ]

    def check_references(self, references: Sequence[str]) -> list[bool]:
        """Whether each reference answer can be read as mathematics, in order.

        Raises:
            EngineError: as `verify`.
        """
        different = dict.fromkeys(references)
        doubtful = [text for text in different if parsable_source(text) and not is_number(text)]
        outcomes = self._run([{"reference": text} for text in doubtful])
        readable = {
            text for text, outcome in zip(doubtful, outcomes, strict=True) if outcome == Cause.CORRECT
        }
        return [text in readable or is_number(text) for text in references]

    def close(self) -> None:
        """Ends the checking processes; a verification under way in another thread ends with an error."""
        self._pool.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Cause]:
        different = list(dict.fromkeys(pairs))
        outcomes = self._run([{"answer": answer, "reference": reference} for answer, reference in different])
        return dict(zip(different, map(_cause, outcomes), strict=True))

    def _run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Runs tasks on the pool's own thread, which outlives the threads that call us."""
        if not tasks:
            return []
        try:
            run = self._thread.submit(self._pool.run, tasks)
        except RuntimeError:
            raise EngineError("the verifier is closed") from None
        try:
            return run.result()
        except KeyboardInterrupt:
            self._pool.cancel()
            raise


def _final_answer(request: VerificationRequest) -> str | None:
    """The extracted answer; of an absurdly long one the part that is worth keeping."""
    found = extract_answer(request.response, request.truncated)
    return None if found is None else found.text[: LONGEST_ANSWER + 1]


def _cause_without_algebra(answer: str | None, reference: str) -> Cause | None:
    """The cause where text alone decides, None where a checking process has to."""
    if answer is None:
        return Cause.NO_ANSWER
    if len(answer) > LONGEST_ANSWER:
        return Cause.UNPARSABLE
    if decided := decide_as_text(answer, reference):
        return decided
    if parsable_source(reference) is None:
        return Cause.BAD_REFERENCE
    return Cause.UNPARSABLE if parsable_source(answer) is None else None


def _cause(outcome: Outcome) -> Cause:
    return _CAUSE_OF_FAILURE[outcome] if isinstance(outcome, Failure) else Cause(outcome)
