"""`code`: the last fenced program of a response passes the tests that are its problem's reference."""

import os
import platform
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial

from hsstar.domain.errors import BadInputError, EngineError
from hsstar.domain.program_tests import holds_program_tests, read_program_tests
from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import CodeSettings
from hsstar.verifier.code.judging import judge_program
from hsstar.verifier.code.programs import find_program
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.kinds.base import BaseVerifier, key_of, version_of
from hsstar.verifier.references import ReferenceKind
from hsstar.verifier.sandbox import Limits, Sandbox, SandboxError, Way, usable_way

_STARTS = 2
"""How often a sandbox is started if it fails."""


class CodeVerifier(BaseVerifier):
    """Run programs in sandboxes (contract `Verifier`), `processes` of them at once, by default one per core.

    Sandboxes start with the first program. Raise SandboxError, in `decide`, where none works: no program ever
    runs without.
    """

    compares_answers = False

    def __init__(self, settings: CodeSettings, processes: int | None = None) -> None:
        self._version = version_of(settings, f"python {platform.python_version()}")
        self._limits = Limits(settings.memory_limit_mb, cpu_seconds=settings.deadline_seconds)
        self._threads = ThreadPoolExecutor(processes or os.cpu_count() or 1, thread_name_prefix="programs")
        self._running: set[Sandbox] = set()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def version(self) -> str:
        """Names kind, limits and the version of Python."""
        return self._version

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """Say of each reference whether it holds tests."""
        return [
            ReferenceKind.TESTS if holds_program_tests(request.reference) else ReferenceKind.UNREADABLE
            for request in requests
        ]

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Find the programs."""
        return [_pair(request) for request in requests]

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Run each different program on its tests; raise SandboxError where no sandbox works."""
        if not pairs:
            return
        way = usable_way()
        different = {pair.key: pair for pair in pairs}
        try:
            judged = {self._threads.submit(self._judge, way, pair): key for key, pair in different.items()}
        except RuntimeError:
            raise EngineError("the verifier is closed") from None
        try:
            for done in as_completed(judged):
                yield judged[done], _result(done)
        finally:
            for future in judged:
                future.cancel()

    def close(self) -> None:
        """End the programs; a verification in another thread ends with an error."""
        self._closed = True
        with self._lock:
            for sandbox in self._running:
                sandbox.kill()
        self._threads.shutdown(cancel_futures=True)

    def _judge(self, way: Way, pair: AnswerPair) -> CheckResult:
        try:
            tests = read_program_tests(pair.reference)
        except BadInputError as error:
            return CheckResult(Cause.BAD_REFERENCE, str(error))
        try:
            found = judge_program(pair.answer or "", tests, partial(self._open, way))
        except SandboxError as error:
            found = CheckResult(Cause.CHECK_FAILED, str(error))
        if self._closed:
            raise EngineError("the verifier was closed during a verification")
        return found

    def _open(self, way: Way) -> Sandbox:
        for attempt in range(_STARTS):
            try:
                sandbox = Sandbox(way, self._limits, ended=self._forget)
                break
            except SandboxError:
                if attempt + 1 == _STARTS:
                    raise
        with self._lock:
            self._running.add(sandbox)
            if self._closed:
                sandbox.kill()
        return sandbox

    def _forget(self, sandbox: Sandbox) -> None:
        with self._lock:
            self._running.discard(sandbox)


def _pair(request: VerificationRequest) -> AnswerPair:
    found = find_program(request.response, truncated=request.truncated, is_answer=request.is_answer)
    key = key_of(found.source or "", request.reference)
    cause = Cause.NO_ANSWER if found.source is None else None
    return AnswerPair(found.source, request.reference, cause, key, found.reason)


def _result(done: Future[CheckResult]) -> CheckResult:
    if done.cancelled():
        raise EngineError("the verifier was closed during a verification")
    return done.result()
