"""Problems of reasoning-gym by their `gym:` names: what a name may say, and what it gives."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsstar.data.files import ProblemFiles, read_problems
from hsstar.data.gym import TASKS, generate_rows
from hsstar.data.solutions import StepReport, in_steps, read_solutions
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.problems import Problem
from hsstar.domain.steps import split_steps
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest

WORD_PROBLEMS = "gym:gsm_symbolic?size=900&seed=7"
WRONG_TEXTS = [
    ("gym:", "expected a task with answers that hsstar can judge: acre, aiw, "),
    ("gym:sudoku?size=1&seed=1", "expected a task with answers that hsstar can judge: acre, aiw, "),
    ("gym:gcd", "size and seed missing; as in gym:gcd?size=1000&seed=1"),
    ("gym:gcd?size=3", "seed missing; as in"),
    ("gym:gcd?size=3&seed", "expected KEY=VALUE joined by & after the question mark"),
    ("gym:gcd?size=3&seed=1&size=4", "a key appears twice"),
]
WRONG_VALUES = [
    ("gcd?size=3&seed=1&maxvalue=9", "unknown key 'maxvalue'; gcd has max_numbers, max_value, min_numbers, "),
    ("gcd?size=3&seed=1&templates=1", "unknown key 'templates'"),
    ("gcd?size=0&seed=1", "expected a whole number from 1 to 1,000,000 as size, found '0'"),
    ("gcd?size=3&seed=-1", "expected a whole number from 0 as seed, found '-1'"),
    ("gcd?size=3&seed=1&max_value=many", "expected a whole number as max_value, found 'many'"),
    ("syllogism?size=3&seed=1&allow_no=no", "expected true or false as allow_no, found 'no'"),
    ("syllogism?size=3&seed=1&invalid_ratio=half", "expected a number as invalid_ratio, found 'half'"),
    ("basic_arithmetic?size=3&seed=1&format_style=odd", "expected one of simple, natural as format_style"),
    ("gsm_symbolic?size=3&seed=1&templates=9-", "expected numbers and ranges as in 0-79,90 as templates"),
    ("gsm_symbolic?size=3&seed=1&templates=900", " holds no rows"),
    ("gsm_symbolic?size=3&seed=1&difficulty=2", "gsm_symbolic refuses these values"),
    ("gcd?size=3&seed=1&max_value=0", r"gcd refuses these values (max_value must be > min_value)"),
]
PRINT = """
from hsstar.data.gym import TASKS, generate_rows
print([list(generate_rows(f"gym:{task}?size=9&seed=5")) for task in TASKS])
"""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=1) as made:
        yield made


def problems_of(name: str) -> list[Problem]:
    return list(read_problems(Path(name)))


@pytest.mark.parametrize(("name", "message"), WRONG_TEXTS)
def test_a_wrong_name_is_refused_before_the_package_is_asked(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(BadInputError) as refusal:
        problems_of(name)
    assert str(refusal.value).startswith(f"{name}: {message}")


def test_without_the_package_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingDependencyError, match=r'install it with pip install "hsstar\[gym\]"'):
        problems_of("gym:gcd?size=3&seed=1")


@pytest.mark.parametrize(("name", "message"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_is_expected(name: str, message: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(BadInputError) as refusal:
        problems_of(f"gym:{name}")
    assert str(refusal.value).startswith(f"gym:{name}")
    assert message in str(refusal.value)


def test_a_word_problem_has_its_worked_solution_and_its_template() -> None:
    pytest.importorskip("reasoning_gym")
    first, second = problems_of("gym:gsm_symbolic?size=2&seed=7")
    assert (first.subject, first.source_id) == ("gsm_symbolic/27", "gsm_symbolic-7-0")
    assert (second.subject, second.source_id, second.reference) == (
        "gsm_symbolic/12",
        "gsm_symbolic-7-1",
        "57",
    )
    assert (second.solution or "").endswith("\n#### 57")
    assert problems_of("gym:gsm_symbolic?size=2&seed=8") != [first, second]


def test_values_reach_the_task() -> None:
    pytest.importorskip("reasoning_gym")
    options = "min_terms=2&max_terms=2&min_digits=1&max_digits=1&allow_negation=False"
    sums = problems_of(f"gym:chain_sum?size=20&seed=1&{options}")
    assert len(sums) == 20
    assert all(abs(int(problem.reference)) < 20 and problem.solution is None for problem in sums)
    assert {problem.subject for problem in sums} == {"chain_sum"}


def test_templates_part_the_problems_of_one_name() -> None:
    pytest.importorskip("reasoning_gym")
    everything = problems_of(WORD_PROBLEMS)
    parts = [problems_of(f"{WORD_PROBLEMS}&templates={part}") for part in ("0-79", "80-98,99")]
    templates = [{int((problem.subject or "").rpartition("/")[2]) for problem in part} for part in parts]
    assert max(templates[0]) < 80 <= min(templates[1])
    assert sorted(parts[0] + parts[1], key=everything.index) == everything


def test_solutions_of_every_template_come_into_steps() -> None:
    pytest.importorskip("reasoning_gym")
    problems, report = problems_of(WORD_PROBLEMS), StepReport()
    rows = list(in_steps(read_solutions(ProblemFiles([Path(WORD_PROBLEMS)])), report))
    assert (report.written, report.refused) == (900, {})
    assert len({problem.subject for problem in problems}) == 85
    for problem, row in zip(problems, rows, strict=True):
        *steps, answer = split_steps(row["resp"])
        assert answer == f"The final answer is \\boxed{{{problem.reference}}}."
        assert problem.reference in steps[-1].replace(",", "") or problem.reference == "-1"
        assert not any(step.endswith(":") or "####" in step for step in steps)


def test_the_same_names_give_the_same_problems_in_every_process() -> None:
    pytest.importorskip("reasoning_gym")
    here = [list(generate_rows(f"gym:{task}?size=9&seed=5")) for task in TASKS]
    there = subprocess.check_output([sys.executable, "-c", PRINT], env={"PYTHONHASHSEED": "1"}, text=True)
    assert there.strip() == repr(here)


@pytest.mark.parametrize("task", TASKS)
def test_the_verifier_judges_answers_as_the_task_itself_does(task: str, verifier: MathVerifier) -> None:
    gym = pytest.importorskip("reasoning_gym")
    entries = list(gym.create_dataset(task, size=8, seed=5))
    answers = [row["answer"] for _, row in generate_rows(f"gym:{task}?size=8&seed=5")]
    pairs = [(answer, entry) for entry in entries for answer in answers]
    requests = [
        VerificationRequest(f"So it is \\boxed{{{answer}}}.", entry["answer"]) for answer, entry in pairs
    ]
    checker = gym.get_score_answer_fn(task)
    for (answer, entry), judgement in zip(pairs, verifier.verify(requests), strict=True):
        assert (judgement.cause == "correct") == (checker(answer, entry) == 1), (answer, entry["answer"])
