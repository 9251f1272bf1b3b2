"""Problems whose reference is the tests of a program: HumanEval, MBPP, APPS, TACO, LiveCodeBench.

`domain/program_tests.py` reads the tests; here they are put together from the columns of a row.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hsstar.data.columns import Row, first_value, optional_label, optional_text, statement_of, text_of
from hsstar.domain.program_tests import holds_program_tests
from hsstar.domain.text import storable


@dataclass(frozen=True, slots=True)
class ProgramParts:
    """What a row says about a program; `tests` becomes the reference as JSON."""

    statement: str
    tests: Any
    solution: str | None = None


ReadParts = Callable[[Row], ProgramParts]


def tests_text(tests: Any) -> str:
    """Return tests as the text of a reference; empty if none of them can be read."""
    text = tests if isinstance(tests, str) else json.dumps(tests, ensure_ascii=False)
    return storable(text) if holds_program_tests(text) else ""


def humaneval(row: Row) -> ProgramParts:
    """The beginning of a function to complete; its tests may call what stands there beside it."""
    prompt, name = text_of(row, "prompt"), text_of(row, "entry_point")
    tests = {"test": text_of(row, "test"), "entry_point": name, "setup": _setup(prompt)}
    ending = optional_text(row, "canonical_solution")
    statement = f"Write the function `{name}` in Python.\n\n{_fenced(prompt)}"
    return ProgramParts(statement, tests, _fenced(prompt + ending) if ending else None)


def mbpp(row: Row) -> ProgramParts:
    """A task in words; only the tests name the function."""
    tests = [*_texts(row, "test_list"), *_texts(row, "challenge_test_list")]
    setup = [*_texts(row, "test_imports"), *_texts(row, "test_setup_code")]
    shown = _fenced("\n".join(_texts(row, "test_list")))
    statement = f"{statement_of(row, 'text', 'prompt')}\n\nThe program must pass these tests:\n\n{shown}"
    solution = optional_text(row, "code")
    given = {"test_list": tests, "test_imports": setup}
    return ProgramParts(statement, given, _fenced(solution) if solution else None)


def apps(row: Row) -> ProgramParts:
    """Inputs and outputs as JSON; solutions as a list of programs."""
    solutions = [text for text in _texts(row, "solutions") if text.strip()]
    return ProgramParts(
        _with_beginning(statement_of(row, "question", "prompt"), optional_text(row, "starter_code")),
        text_of(row, "input_output"),
        _fenced(solutions[0]) if solutions else None,
    )


def livecodebench(row: Row) -> ProgramParts:
    """Public tests as JSON; the hidden ones count where they are JSON too, not packed by Python."""
    cases = [*_list(row, "public_test_cases"), *_list(row, "private_test_cases")]
    metadata = _parsed((first_value(row, ("metadata",)) or ("", {}))[1])
    function = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    statement = _with_beginning(statement_of(row, "question_content"), optional_text(row, "starter_code"))
    return ProgramParts(statement, {"tests": cases, "fn_name": function})


def name_of(row: Row) -> str | None:
    """Return the name of a problem in its source."""
    return optional_label(row, "task_id", "problem_id", "question_id", "id", "name")


def _setup(prompt: str) -> str:
    """Return what a prompt defines, where it is whole Python: its last function has a text alone."""
    try:
        compile(prompt, "prompt", "exec")
    except (SyntaxError, ValueError):
        return ""
    return prompt


def _with_beginning(statement: str, beginning: str | None) -> str:
    if not beginning or not beginning.strip():
        return statement
    return f"{statement}\n\nBegin with:\n\n{_fenced(beginning)}"


def _fenced(source: str) -> str:
    return f"```python\n{source.strip()}\n```"


def _texts(row: Row, path: str) -> list[str]:
    """Return the texts of a column: a list of them, also as JSON, or one."""
    value = _parsed((first_value(row, (path,)) or ("", None))[1])
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _list(row: Row, path: str) -> list[Any]:
    value = _parsed((first_value(row, (path,)) or ("", None))[1])
    return value if isinstance(value, list) else []


def _parsed(value: Any) -> Any:
    """Return the list or object that a text of JSON is; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
