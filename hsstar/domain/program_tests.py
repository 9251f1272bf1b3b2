"""The tests of a program as data sets publish them, as the reference of a problem.

| reference | published by | what a program must do |
|---|---|---|
| `{"inputs": ["1 2\n"], "outputs": ["3\n"]}` | APPS, TACO | read the input, write the output |
| `{"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}` | APPS, TACO | define the function |
| `[{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]` | LiveCodeBench | either, by `testtype` |
| `{"test_list": ["assert add(1, 2) == 3"]}`, `["assert …"]`, `assert …` | MBPP | pass the asserts |
| `{"test": "def check(candidate): …", "entry_point": "add"}` | HumanEval | pass `check(add)` |
"""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of


@dataclass(frozen=True, slots=True)
class InputTests:
    """Texts of standard input, each with the expected output."""

    cases: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CallTests:
    """Arguments of a function, or of a method of `Solution`, each with the expected value."""

    function: str
    cases: tuple[tuple[list[Any], Any], ...]


@dataclass(frozen=True, slots=True)
class AssertTests:
    """Sources that raise where a program is wrong."""

    tests: tuple[str, ...]
    setup: tuple[str, ...] = ()  # before tests and program
    entry_point: str | None = None
    """The function that the tests call `candidate`; None: they call functions by their names."""


ProgramTests = InputTests | CallTests | AssertTests


def read_program_tests(reference: str) -> ProgramTests:
    """Return the tests in a reference; raise BadInputError if it holds none."""
    text = reference.strip()
    if not text.startswith(("{", "[")):
        return AssertTests(_statements(text))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"expected tests as JSON, found text that is none ({error})") from None
    tests = _read(value)
    if not (tests.tests if isinstance(tests, AssertTests) else tests.cases):
        raise BadInputError("expected at least one test, found none")
    return tests


def holds_program_tests(reference: str) -> bool:
    """Tell whether a reference holds tests of a program."""
    if not any(mark in reference for mark in ('"', "assert")):
        return False
    try:
        read_program_tests(reference)
    except BadInputError:
        return False
    return True


def _read(value: Any) -> ProgramTests:
    match value:
        case {"inputs": list(inputs), "outputs": list(outputs)} if len(inputs) == len(outputs):
            function = value.get("fn_name")
            if function:
                return CallTests(str(function), tuple(zip(map(_arguments, inputs), outputs, strict=True)))
            return InputTests(tuple(zip(map(_text, inputs), map(_text, outputs), strict=True)))
        case {"tests": list(cases)}:
            return _cases(cases, value.get("fn_name"))
        case {"test_list": [*tests]} if all(isinstance(test, str) for test in tests):
            setup = filter(None, [*value.get("test_imports", ()), value.get("test_setup_code")])
            return AssertTests(tuple(map(_source, tests)), tuple(map(_source, setup)))
        case {"test": str(test), "entry_point": str(entry_point)}:
            checks = (_source(test), f"check({entry_point})")
            return AssertTests(checks, tuple(map(_source, filter(None, [value.get("setup")]))), entry_point)
        case [str(), *_] if all(isinstance(test, str) and "assert" in test for test in value):
            return AssertTests(tuple(map(_source, value)))
        case [{"input": _, "output": _}, *_]:
            return _cases(value, None)
    raise BadInputError(
        "expected tests of a program (inputs and outputs, test_list, or test and entry_point), "
        f"found {kind_of(value)}{f' with keys {list(value)[:5]}' if isinstance(value, dict) else ''}"
    )


def _cases(cases: Sequence[Any], function: str | None) -> ProgramTests:
    """Read the cases of LiveCodeBench: arguments are a line of JSON each."""
    if not all(isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases):
        raise BadInputError("expected each test with input and output")
    if not function:
        if any(case.get("testtype") == "functional" for case in cases):
            raise BadInputError('expected {"fn_name": …, "tests": […]} beside tests of a function')
        return InputTests(tuple((_text(case["input"]), _text(case["output"])) for case in cases))
    try:
        return CallTests(
            function,
            tuple(
                (
                    [json.loads(line) for line in case["input"].splitlines() if line],
                    json.loads(case["output"]),
                )
                for case in cases
            ),
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise BadInputError(f"expected arguments as lines of JSON, found others ({error})") from None


def _text(value: Any) -> str:
    """Return text, which may be a list of lines."""
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if not isinstance(value, str | int | float):
        raise BadInputError(f"expected an input or output as text, found {kind_of(value)}")
    return str(value)


def _arguments(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadInputError(f"expected a list of arguments, found {kind_of(value)}")
    return value


def _source(text: Any) -> str:
    """Return a source of Python."""
    _parsed(str(text))
    return str(text)


def _statements(text: str) -> tuple[str, ...]:
    """Return the statements of plain text that asserts something."""
    statements = _parsed(text).body
    if not any(isinstance(node, ast.Assert) for statement in statements for node in ast.walk(statement)):
        raise BadInputError("expected tests of a program, found text without an assert")
    return tuple(ast.get_source_segment(text, statement) or "" for statement in statements)


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadInputError(f"expected tests as Python, found text that is none ({error})") from None
