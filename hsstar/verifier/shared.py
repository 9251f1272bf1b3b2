"""One verifier for many callers at once, and `judge`, which needs no set-up.

A slow answer holds up nobody else: each of its checking processes has one pair at a time, and takes the next
as soon as it is free. Equal pairs that wait at the same time are computed once.
"""

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import LifoQueue
from typing import Self

from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import CheckResult, Judgement
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.math_verifier import MathVerifier


class SharedVerifier:
    """Judge the requests of any number of threads and tasks.

    `processes` is the most checking processes at a time, by default one per core, at least two; each starts
    when all others are busy. The other options and the causes are those of `MathVerifier`.
    """

    def __init__(
        self, processes: int | None = None, deadline_seconds: float = 3.0, memory_limit_mb: int = 1024
    ) -> None:
        number = processes or max(2, os.cpu_count() or 1)
        self._verifiers = [MathVerifier(1, deadline_seconds, memory_limit_mb) for _ in range(number)]
        self.version = self._verifiers[0].version
        self._free: LifoQueue[MathVerifier] = LifoQueue()
        for verifier in reversed(self._verifiers):
            self._free.put(verifier)
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="shared-verifier")
        self._deciding: dict[bytes, Future[CheckResult]] = {}
        self._lock = threading.Lock()

    def submit(self, request: VerificationRequest) -> Future[Judgement]:
        """Begin to judge a request; texts that are enough are judged before this returns.

        The future ends with EngineError if no checking process starts or the verifier is closed.
        """
        [pair] = self._verifiers[0].prepare([request])
        judged: Future[Judgement] = Future()
        if pair.cause is not None:
            judged.set_result(Judgement(pair.cause, pair.answer))
            return judged
        with self._lock:
            decided = self._deciding.get(pair.key)
            if decided is None:
                decided = self._deciding[pair.key] = self._begin(pair)
        decided.add_done_callback(partial(_pass_on, judged, pair.answer))
        return judged

    def verify(self, requests: Iterable[VerificationRequest]) -> list[Judgement]:
        """Return one judgement per request, in order. Raise EngineError as the futures of `submit` do."""
        return [judged.result() for judged in list(map(self.submit, requests))]

    def close(self) -> None:
        """End the checking processes; what waits for them ends with EngineError."""
        for verifier in self._verifiers:
            verifier.close()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, pair: AnswerPair) -> Future[CheckResult]:
        try:
            return self._threads.submit(self._decide, pair)
        except RuntimeError:
            raise EngineError("the verifier is closed") from None

    def _decide(self, pair: AnswerPair) -> CheckResult:
        verifier = self._free.get()
        try:
            [(_, result)] = verifier.decide([pair])
            return result
        finally:
            self._free.put(verifier)
            with self._lock:
                del self._deciding[pair.key]


def judge(answer: str, reference: str, *, is_answer: bool = True, truncated: bool = False) -> Judgement:
    r"""Judge a final answer, or with `is_answer=False` the one that a whole response gives.

        judge(r"\frac{2}{4}", "0.5").verdict  # correct

    The checking processes start with the first answer that needs algebra, which takes about a second, and end
    with this process. `judge`, `judge_batch` and `judge_async` share them. Any thread and any forked process
    may call them. Raise EngineError if no checking process starts.
    """
    return _verifier_of_this_process().submit(_request(answer, reference, is_answer, truncated)).result()


def judge_batch(requests: Iterable[VerificationRequest]) -> list[Judgement]:
    """Judge requests on all cores; return one judgement per request, in order. Raises as `judge` does."""
    return _verifier_of_this_process().verify(requests)


async def judge_async(
    answer: str, reference: str, *, is_answer: bool = True, truncated: bool = False
) -> Judgement:
    """Judge as `judge` does, while the event loop continues. Many at once: `asyncio.gather`."""
    from asyncio import wrap_future

    request = _request(answer, reference, is_answer, truncated)
    return await wrap_future(_verifier_of_this_process().submit(request))


def _request(answer: str, reference: str, is_answer: bool, truncated: bool) -> VerificationRequest:
    return VerificationRequest(answer, reference, truncated, is_answer)


def _pass_on(judged: Future[Judgement], answer: str | None, decided: Future[CheckResult]) -> None:
    """End a caller's future, which the caller may have cancelled, as its pair has ended."""
    if not judged.set_running_or_notify_cancel():
        return
    if decided.cancelled():
        judged.set_exception(EngineError("the verifier is closed"))
    elif error := decided.exception():
        judged.set_exception(error)
    else:
        result = decided.result()
        judged.set_result(Judgement(result.cause, answer, result.detail))


_own: SharedVerifier | None = None
_own_lock = threading.Lock()


def _verifier_of_this_process() -> SharedVerifier:
    global _own
    with _own_lock:
        if _own is None:
            _own = SharedVerifier()
        return _own


def _forget() -> None:
    """Leave the checking processes to the process that started them."""
    global _own, _own_lock
    _own, _own_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
