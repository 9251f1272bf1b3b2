"""Judge a program by tests, in sandboxes: what it returns or writes is compared where it cannot reach.

A program that fails a test is incorrect, whatever the way: a wrong value, an error, an exit, its limit of
processor time or memory, or that it waits for nothing. It has no verdict only where the machine may be to
blame: it got no processor, or the sandbox failed.
"""

import time
from collections.abc import Callable
from typing import Any

from hsstar.domain.program_tests import AssertTests, CallTests, InputTests, ProgramTests
from hsstar.domain.verdict import Cause, CheckResult
from hsstar.verifier.code.outputs import same_output, same_value
from hsstar.verifier.sandbox import EndedError, Sandbox
from hsstar.verifier.sandbox.inside.values import NotPlainError, decode, encode
from hsstar.verifier.sandbox.sandbox import End

Open = Callable[[], Sandbox]
"""Starts a sandbox."""

_LONGEST_SHOWN = 200
_MOST_CALLS = 100_000
_LONGEST_SECONDS = 600.0
"""For all tests of one program by the clock."""


class _FailedError(Exception):
    """A test has failed; the text says how."""


def judge_program(source: str, tests: ProgramTests, open_sandbox: Open) -> CheckResult:
    """Run a program on tests until one fails; raise SandboxError if the sandbox does not start."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    match tests:
        case InputTests():
            return _judge_by_input(source, tests, open_sandbox, deadline)
        case CallTests():
            return _judge_by_calls(source, tests, open_sandbox, deadline)
        case AssertTests():
            return _judge_by_asserts(source, tests, open_sandbox, deadline)


def _judge_by_input(source: str, tests: InputTests, open_sandbox: Open, deadline: float) -> CheckResult:
    def check(sandbox: Sandbox, case: tuple[str, str]) -> None:
        given, expected = case
        answer = sandbox.ask({"op": "run", "program": source, "input": given})
        if answer.get("too_much_output"):
            raise _FailedError("wrote more than it may")
        if answer.get("exit") != 0:
            raise _FailedError(_text(answer.get("errors")) or f"ended with exit code {answer.get('exit')}")
        if not same_output(str(answer.get("output")), expected):
            raise _FailedError(_different("wrote", str(answer.get("output")), expected))

    with open_sandbox() as sandbox:
        return _first_failure(tests.cases, lambda case: check(sandbox, case), deadline)


def _judge_by_calls(source: str, tests: CallTests, open_sandbox: Open, deadline: float) -> CheckResult:
    def check(sandbox: Sandbox, case: tuple[list[Any], Any]) -> None:
        arguments, expected = case
        encoded = [encode(argument) for argument in arguments]
        answer = sandbox.ask({"op": "call", "target": tests.function, "arguments": encoded, "named": {}})
        if "raised" in answer:
            raise _FailedError(f"raised {_text(answer.get('text'))}")
        try:
            value = decode(answer.get("value"))
        except NotPlainError as error:
            raise _FailedError(f"returned {error}") from None
        if not same_value(value, expected):
            raise _FailedError(_different("returned", repr(value), repr(expected)))

    with open_sandbox() as sandbox:
        if failure := _load(sandbox, [source]):
            return failure
        return _first_failure(tests.cases, lambda case: check(sandbox, case), deadline)


def _judge_by_asserts(source: str, tests: AssertTests, open_sandbox: Open, deadline: float) -> CheckResult:
    """Run the tests in a sandbox of their own, which calls the program's functions in the other one."""
    with open_sandbox() as program, open_sandbox() as testing:
        try:
            loaded = program.ask({"op": "load", "sources": [*tests.setup, source]})
        except EndedError as error:
            return _of_program(error, "before its tests: ")
        if "raised" in loaded:
            return _incorrect(f"before its tests: raised {_text(loaded.get('text'))}")
        message = {
            "op": "test",
            "setup": tests.setup,
            "tests": tests.tests,
            "entry_point": tests.entry_point,
            "called": ["candidate", tests.entry_point] if tests.entry_point else [],
            "names": [name for name in loaded.get("names") or () if isinstance(name, str)],
        }
        for _ in range(_MOST_CALLS):
            try:
                answer = testing.ask(message)
            except EndedError as error:
                late = error.how in (End.CPU, End.IDLE, End.WALL)
                return CheckResult(Cause.TIMED_OUT if late else Cause.CRASHED, f"the tests: {error}")
            if "ask" not in answer:
                return _of_tests(answer, tests)
            if time.monotonic() > deadline:
                return _too_late()
            try:
                message = program.ask(answer["ask"])
            except EndedError as error:
                return _of_program(error, "a test: ")
    return CheckResult(Cause.BAD_REFERENCE, f"the tests call the program more than {_MOST_CALLS:,} times")


def _of_tests(answer: dict[str, Any], tests: AssertTests) -> CheckResult:
    if "bad_tests" in answer:
        return CheckResult(Cause.BAD_REFERENCE, f"the tests cannot be run: {_text(answer['bad_tests'])}")
    failed, why = answer.get("failed"), _text(answer.get("why"))
    if failed is None and answer.get("count") == len(tests.tests):
        return CheckResult(Cause.CORRECT)
    if not isinstance(failed, int):
        return CheckResult(Cause.CRASHED, "the tests ended without a result")
    return _incorrect(why if tests.entry_point else f"test {failed + 1} of {len(tests.tests)}: {why}")


def _load(sandbox: Sandbox, sources: list[str]) -> CheckResult | None:
    """Load a program; return why that failed."""
    try:
        loaded = sandbox.ask({"op": "load", "sources": sources})
    except EndedError as error:
        return _of_program(error, "before its tests: ")
    return _incorrect(f"before its tests: raised {_text(loaded.get('text'))}") if "raised" in loaded else None


def _first_failure(cases: Any, check: Callable[[Any], None], deadline: float) -> CheckResult:
    for number, case in enumerate(cases, 1):
        place = f"test {number} of {len(cases)}: "
        if time.monotonic() > deadline:
            return _too_late()
        try:
            check(case)
        except _FailedError as error:
            return _incorrect(f"{place}{error}")
        except EndedError as error:
            return _of_program(error, place)
    return CheckResult(Cause.CORRECT)


def _of_program(error: EndedError, place: str) -> CheckResult:
    cause = Cause.TIMED_OUT if error.how is End.WALL else Cause.INCORRECT
    return CheckResult(cause, f"{place}the program {error}")


def _too_late() -> CheckResult:
    return CheckResult(Cause.TIMED_OUT, f"the tests of the program did not end within {_LONGEST_SECONDS:g} s")


def _incorrect(detail: str) -> CheckResult:
    return CheckResult(Cause.INCORRECT, detail)


def _different(verb: str, found: str, expected: str) -> str:
    return f"{verb} {_text(found) or 'nothing'}, expected {_text(expected) or 'nothing'}"


def _text(value: Any) -> str:
    """Return a text of the sandbox on one line, shortened."""
    line = " ".join(str(value if value is not None else "").split())
    return line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + "…"
