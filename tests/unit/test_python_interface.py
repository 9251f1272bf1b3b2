"""`import hsstar` costs nothing, its names are typed, and filters say what they take."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hsstar
from hsstar.api.filters import CauseName, LevelName, PhaseName, VerdictName, conditions
from hsstar.api.verification import verify
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.verdict import Cause, Verdict
from hsstar.store.read.selections import compose

STUB = Path(hsstar.__file__).with_suffix(".pyi")
IMPORT = """
import sys, time
started = time.process_time()
import hsstar
seconds = time.process_time() - started
print(seconds, *(name for name in sys.modules if name.startswith(("hsstar.", "sqlalchemy", "pyarrow"))))
"""


def test_the_import_takes_no_time_and_imports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 0.1
    assert modules == []


def test_every_name_is_there_and_typed() -> None:
    typed = re.findall(r"^from \S+ import (\w+) as \1$|^(\w+): str$", STUB.read_text(), re.MULTILINE)
    named = {first or second for first, second in typed}
    assert named == set(hsstar.__all__) == set(dir(hsstar))
    assert all(getattr(hsstar, name) is not None for name in hsstar.__all__)
    with pytest.raises(AttributeError, match="module 'hsstar' has no attribute 'conect'"):
        _ = hsstar.conect  # type: ignore[attr-defined]


def test_the_types_of_filters_name_the_words_of_the_domain() -> None:
    words = {"verdict": Verdict, "difficulty": Difficulty, "cause": Cause}
    named = {"verdict": VerdictName, "difficulty": LevelName, "cause": CauseName}
    assert {name: set(literal.__args__) for name, literal in named.items()} == {  # type: ignore[attr-defined]
        name: {*map(str, words[name]), "none"} for name in words
    }
    assert PhaseName.__args__ == ("pre", "re")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"verdict": "corect"}, "verdict='corect' is not legal: it must be one of correct, incorrect, none; "
         "did you mean 'correct'?"),
        ({"difficulty": ["inlier", 3]}, "difficulty=3 is not legal: it must be one of inlier, boundary, "),
        ({"phase": "none"}, "phase='none' is not legal: it must be one of pre, re"),
        ({"cause": "timeout"}, "did you mean 'timed_out'"),
        ({"iteration": "1"}, "iteration='1' is not legal: it must be a whole number"),
        ({"iteration": True}, "iteration=True is not legal"),
        ({"problem_id": 1.0}, "problem_id=1.0 is not legal"),
        ({"benchmark": 5}, "benchmark=5 is not legal: it must be text"),
        ({"measure": "a\0b"}, "is not legal: it must be text"),
    ],
)  # fmt: skip
def test_a_wrong_filter_names_what_is_legal(filters: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(message)):
        conditions("demo", **filters)


def test_filters_take_one_value_or_several_and_none_means_null() -> None:
    assert conditions("demo", iteration=range(2), verdict=("correct", "none"), cause=None, slot=0) == {
        "run": ["demo"], "iteration": [0, 1], "verdict": ["correct", None], "slot": [0]
    }  # fmt: skip


def test_a_selection_is_one_statement_whose_values_are_quoted() -> None:
    wanted = conditions("it's; DROP TABLE runs --\\", iteration=[], difficulty=["none", "inlier"])
    statement = compose("problem_statistics", wanted, ["run", 'a"b'], limit=3)
    assert statement.replace(" E'", "E'") == (
        'SELECT "run", "a""b" FROM "problem_statistics" AS selected WHERE '
        """("run" IN (E'it''s; DROP TABLE runs --\\\\')) AND false """
        """AND ("difficulty" IN ('inlier') OR "difficulty" IS NULL) """
        'ORDER BY "iteration", "problem_id" LIMIT 3'
    )


def test_answers_are_judged_without_a_database() -> None:
    rows: list[dict[str, object]] = [
        {"answer": "0.5", "reference": r"\frac{1}{2}"},
        {"response": "It is 3.", "reference": 4},
    ]
    assert [judgement.verdict for judgement in verify(rows)] == ["correct", "incorrect"]
    explained = hsstar.explain("1/2", "0.5")
    assert (explained.cause, explained.answer) == (Cause.CORRECT, "1/2")
    with pytest.raises(BadInputError, match="rows:2: expected reference, which is missing"):
        verify([rows[0], {"answer": "1"}])
