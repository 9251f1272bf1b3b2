"""One checking process: tasks come on standard input, results go to standard output, one JSON object a line.

The first line of the output is `{"ready": true}` or `{"failed": reason}`. A task is
`{"id": n, "answer": text, "reference": text}`; without `answer` it asks whether the reference can be read.
The results of a task are `{"begun": n}`, and `{"id": n, "outcome": "CAUSE RULE"}` when it is done.

The parent starts it as `python -m hsstar.verifier.process MEMORY_LIMIT_MB`, watches the time, and kills it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import IO, Any

_RECURSION_LIMIT = 3_000
_THREAD_STACK_BYTES = 64 << 20
_PR_SET_PDEATHSIG = 1


def main(memory_limit_mb: int) -> None:
    """Answer tasks until standard input ends."""
    results = _private_output()
    _die_with_parent()
    _limit_resources(memory_limit_mb)
    try:
        answer_task = _warm_judge()
    except ImportError as error:
        _send(results, {"failed": str(error)})
        return
    _send(results, {"ready": True})
    tasks: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.stack_size(_THREAD_STACK_BYTES)
    threading.Thread(target=_answer_tasks, args=(tasks, results, answer_task), daemon=True).start()
    for line in sys.stdin.buffer:
        tasks.put(json.loads(line))
    os._exit(0)  # the parent is gone or has closed this process; nobody waits for the current task


def _answer_tasks(
    tasks: SimpleQueue[dict[str, Any]],
    results: IO[bytes],
    answer_task: Callable[[str | None, str], str],
) -> None:
    while True:
        task = tasks.get()
        _send(results, {"begun": task["id"]})
        try:
            outcome = answer_task(task.get("answer"), task["reference"])
        except BaseException:  # memory, recursion, or a bug: the parent replaces this process
            os._exit(1)
        _send(results, {"id": task["id"], "outcome": outcome})


def _warm_judge() -> Callable[[str | None, str], str]:
    from hsstar.domain.verdict import Cause
    from hsstar.verifier.algebra import SympyAlgebra
    from hsstar.verifier.judging import can_read, judge

    algebra = SympyAlgebra()

    def answer_task(answer: str | None, reference: str) -> str:
        if answer is not None:
            decision = judge(answer, reference, algebra)
            return f"{decision.cause} {decision.rule}"
        return Cause.CORRECT if can_read(reference, algebra) else Cause.BAD_REFERENCE

    answer_task(r"x^{2}-\frac{1}{2}", r"\frac{2x^2-1}{2}")
    return answer_task


def _private_output() -> IO[bytes]:
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def _send(results: IO[bytes], message: dict[str, object]) -> None:
    results.write(json.dumps(message).encode() + b"\n")
    results.flush()


def _die_with_parent() -> None:
    """Leave the terminal's signals to the parent; let the kernel end this process when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_resources(memory_limit_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel refuses or ignores the limit
        limit = memory_limit_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.setrecursionlimit(_RECURSION_LIMIT)


if __name__ == "__main__":
    main(int(sys.argv[1]))
