"""Tests of programs as data sets publish them."""

import json
from typing import Any

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.domain.program_tests import (
    AssertTests,
    CallTests,
    InputTests,
    ProgramTests,
    holds_program_tests,
    read_program_tests,
)

FUNCTIONAL = {"input": "1\n[2]", "output": "3", "testtype": "functional"}


@pytest.mark.parametrize(
    ("published", "tests"),
    [
        ({"inputs": ["1\n", ["2", "3"]], "outputs": ["a", 4]}, InputTests((("1\n", "a"), ("2\n3", "4")))),
        ({"inputs": [[1]], "outputs": [2], "fn_name": "f"}, CallTests("f", (([1], 2),))),
        ([{"input": "1", "output": "2", "testtype": "stdin"}], InputTests((("1", "2"),))),
        ({"tests": [FUNCTIONAL], "fn_name": "f"}, CallTests("f", (([1, [2]], 3),))),
        ({"test_list": ["assert f(1)"]}, AssertTests(("assert f(1)",))),
        (
            {"test_list": ["assert f(1)"], "test_imports": ["import re"], "test_setup_code": "x = 1"},
            AssertTests(("assert f(1)",), ("import re", "x = 1")),
        ),
        (["assert f(1)", "assert f(2)"], AssertTests(("assert f(1)", "assert f(2)"))),
        ({"test": "def check(c): pass", "entry_point": "f"},
         AssertTests(("def check(c): pass", "check(f)"), (), "f")),
        ("x = 1\nassert f(x)", AssertTests(("x = 1", "assert f(x)"))),
    ],
)  # fmt: skip
def test_published_tests_are_read(published: Any, tests: ProgramTests) -> None:
    reference = published if isinstance(published, str) else json.dumps(published)
    assert read_program_tests(reference) == tests
    assert holds_program_tests(reference)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("{", "JSON"),
        ("[1, 2]", "found a list"),
        ('{"a": 1}', r"found an object with keys \['a'\]"),
        ('{"inputs": [], "outputs": []}', "at least one test"),
        ('{"inputs": ["1"], "outputs": []}', "expected tests of a program"),
        ('{"inputs": [{}], "outputs": ["1"]}', "as text, found an object"),
        ('{"inputs": ["1"], "outputs": ["2"], "fn_name": "f"}', "list of arguments, found text"),
        ('{"test_list": []}', "at least one test"),
        ('{"test_list": ["assert f("]}', "as Python"),
        ('{"tests": [{"input": "x", "output": "1"}], "fn_name": "f"}', "lines of JSON"),
        ('{"tests": [{"output": "1"}]}', "with input and output"),
        (json.dumps([FUNCTIONAL]), "fn_name"),
        ("x = 7", "without an assert"),
        (r"\frac{1}{2}", "as Python"),
        ("(" * 10_000 + "assert", "as Python"),
        ("[" * 100_000 + '"', "JSON"),
    ],
)  # fmt: skip
def test_what_is_no_test_says_why(reference: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        read_program_tests(reference)
    assert not holds_program_tests(reference)
