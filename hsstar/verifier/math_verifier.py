"""`MathVerifier`: extraction and texts in this process, algebra in checking processes."""

import hashlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from hsstar.domain.answers import ExtractionRule, extract_answer
from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause, Judgement
from hsstar.verifier.contract import Comparison, VerificationRequest
from hsstar.verifier.forms import is_readable
from hsstar.verifier.judging import Finding, formulas, judge_quickly
from hsstar.verifier.pool import CheckingPool, Failure, Outcome, Task
from hsstar.verifier.reading import read
from hsstar.verifier.spelling import LONGEST_ANSWER, normal_spelling

RULES_VERSION = 3
"""Rises whenever the same response may get another verdict than before."""

SMALLEST_MEMORY_LIMIT_MB = 256

_CAUSE_OF_FAILURE = {Failure.TIMED_OUT: Cause.TIMED_OUT, Failure.CRASHED: Cause.CRASHED}


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a verdict came about.

    Attributes:
        extraction: the rule that found the answer, "as given" where nothing was extracted.
        answer: the final answer as written.
        answer_form: what it was read as.
        reference_form: what the reference was read as.
        rule: what decided.
        cause: the cause of the verdict.
    """

    extraction: str
    answer: str
    answer_form: str
    reference_form: str
    rule: str
    cause: Cause


class MathVerifier:
    """Decides whether final answers are equivalent to their references (contract `Verifier`).

    The final answer is extracted and, where its text is proof enough, judged in this process. The rest goes
    to checking processes, equal pairs of answer and reference once. A pair that takes longer than its
    deadline ends as `timed_out`, one whose process dies as `crashed`, and its neighbours notice nothing.

    Calls from several threads are served one after the other. The processes start when the first pair needs
    them, and end with `close` or with this process.

    Args:
        processes: how many checking processes work side by side; by default one per core, at least two, so
            that a slow pair never holds up the others.
        deadline_seconds: time for one pair, from when a process takes it.
        memory_limit_mb: address space of one checking process, in MiB; at least 256.

    Raises:
        EngineError: the memory limit is too low to load the libraries.
    """

    def __init__(
        self, processes: int | None = None, deadline_seconds: float = 3.0, memory_limit_mb: int = 1024
    ) -> None:
        if memory_limit_mb < SMALLEST_MEMORY_LIMIT_MB:
            raise EngineError(
                f"the memory limit of the verifier has to be at least {SMALLEST_MEMORY_LIMIT_MB} MiB"
            )
        self.version = f"math-verify {version('math-verify')}/hsstar {RULES_VERSION}"
        command = [sys.executable, "-P", "-m", "hsstar.verifier.process", str(memory_limit_mb)]
        self._processes = processes or max(2, os.cpu_count() or 1)
        self._memory_limit_mb = memory_limit_mb
        self._pool = CheckingPool(command, self._processes, deadline_seconds)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verifier")
        self._closed = threading.Event()

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[Comparison]:
        """One comparison per request, in order: extracts the answers and decides what needs no algebra."""
        return [_comparison(request) for request in requests]

    def decide(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[bytes, Cause]]:
        """Decides open comparisons; yields each different key once, as soon as its cause is known.

        Raises:
            EngineError: the checking processes cannot be started at all, or the verifier is closed.
        """
        different = {comparison.key: comparison for comparison in comparisons}
        keys = list(different)
        tasks = [
            {"answer": comparison.answer or "", "reference": comparison.reference}
            for comparison in different.values()
        ]
        for index, outcome in self._run(tasks):
            yield keys[index], _finding(outcome).cause

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """One judgement per request, in order.

        Raises:
            EngineError: as `decide`.
        """
        comparisons = self.prepare(requests)
        decided = dict(self.decide([each for each in comparisons if each.cause is None]))
        return [Judgement(each.cause or decided[each.key], each.answer) for each in comparisons]

    def check_references(self, references: Sequence[str], second_look_seconds: float = 30.0) -> list[bool]:
        """Whether each reference answer can be read as mathematics, in order.

        Args:
            references: the reference answers.
            second_look_seconds: time for each reference that has not been read by its deadline: a busy
                machine must not decide which problems there are. 0 looks once only.

        Raises:
            EngineError: as `decide`.
        """
        different = dict.fromkeys(references)
        readable = {text for text in different if len(text) <= LONGEST_ANSWER and is_readable(read(text))}
        doubtful = [text for text in readable if formulas(read(text))]
        slow = []
        for index, outcome in self._run([{"reference": text} for text in doubtful]):
            if outcome is Failure.TIMED_OUT and second_look_seconds:
                slow.append(doubtful[index])
            elif outcome != Cause.CORRECT:
                readable.discard(doubtful[index])
        if slow:
            with MathVerifier(self._processes, second_look_seconds, self._memory_limit_mb) as patient:
                again = patient.check_references(slow, 0)
            readable.difference_update(text for text, fine in zip(slow, again, strict=True) if not fine)
        return [text in readable for text in references]

    def explain(self, answer: str, reference: str) -> Explanation:
        """How an answer is judged, step by step. An answer that is a whole response is extracted first.

        Raises:
            EngineError: as `decide`.
        """
        found = extract_answer(answer)
        if found is None or found.rule is ExtractionRule.LAST_NUMBER:
            extraction, final = "as given", answer.strip()
        else:
            extraction, final = found.rule.value, found.text
        finding = judge_quickly(final, reference)
        if finding is None:
            [(_, outcome)] = self._run([{"answer": final, "reference": reference}])
            finding = _finding(outcome)
        return Explanation(
            extraction, final, str(read(final)), str(read(reference)), finding.rule, finding.cause
        )

    def close(self) -> None:
        """Ends the checking processes; a verification under way in another thread ends with an error."""
        self._closed.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Runs tasks on the pool's own thread, which outlives the threads that call us."""
        if not tasks:
            return
        outcomes: SimpleQueue[tuple[int, Outcome] | None] = SimpleQueue()
        abandoned = threading.Event()

        def is_wanted() -> bool:
            return not (abandoned.is_set() or self._closed.is_set())

        def run() -> None:
            try:
                self._pool.run(tasks, lambda index, outcome: outcomes.put((index, outcome)), is_wanted)
            finally:
                outcomes.put(None)

        def end_waiting(run: Future[None]) -> None:
            if run.cancelled():
                outcomes.put(None)

        try:
            running = self._thread.submit(run)
        except RuntimeError:
            raise EngineError("the verifier is closed") from None
        running.add_done_callback(end_waiting)
        waiting = len(tasks)
        try:
            while (outcome := outcomes.get()) is not None:
                waiting -= 1
                yield outcome
        finally:
            abandoned.set()
        if self._closed.is_set() and waiting:
            raise EngineError("the verifier was closed in the middle of a verification")
        running.result()


def _comparison(request: VerificationRequest) -> Comparison:
    answer = _final_answer(request)
    key = _key(answer, request.reference)
    if answer is None:
        return Comparison(None, request.reference, Cause.NO_ANSWER, key)
    finding = judge_quickly(answer, request.reference)
    return Comparison(answer, request.reference, finding.cause if finding else None, key)


def _final_answer(request: VerificationRequest) -> str | None:
    """The extracted answer; of an absurdly long one the part that is worth keeping."""
    if request.is_answer:
        return request.response[: LONGEST_ANSWER + 1]
    found = extract_answer(request.response, request.truncated)
    return None if found is None else found.text[: LONGEST_ANSWER + 1]


def _key(answer: str | None, reference: str) -> bytes:
    """Names a pair by the normal spelling of both."""
    given = _spelled(answer or "")
    pair = f"{len(given)} {given}{_spelled(reference)}"
    return hashlib.blake2b(pair.encode(errors="surrogatepass"), digest_size=16).digest()


def _spelled(text: str) -> str:
    return normal_spelling(text) if len(text) <= LONGEST_ANSWER else text


def _finding(outcome: Outcome) -> Finding:
    if isinstance(outcome, Failure):
        return Finding(_CAUSE_OF_FAILURE[outcome], f"the comparison {outcome.value}")
    cause, _, rule = outcome.partition(" ")
    return Finding(Cause(cause), rule)
