"""Problems of reasoning-gym by their `gym:` names: what a name may say, and what it gives."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hsstar.data.files import ProblemFiles, read_problems
from hsstar.data.gym import COMPARABLE, NO_ANSWER, generate_rows, refuse_as_mathematics
from hsstar.data.gym_problems import make_rows
from hsstar.data.solutions import StepReport, in_steps, read_solutions
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.problems import Problem
from hsstar.domain.steps import split_steps
from hsstar.domain.verdict import Cause
from hsstar.domain.verification import GymSettings
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.gym import GymVerifier

WORD_PROBLEMS = "gym:gsm_symbolic?size=900&seed=7"
WRONG_TEXTS = [
    ("gym:", "expected a task, as in gym:chain_sum?size=1000&seed=1"),
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
    ("sudok?size=1&seed=1", "reasoning-gym has no task 'sudok'; did you mean 'sudoku'?"),
    ("qqqq?size=1&seed=1", "reasoning-gym has no task 'qqqq'; it has ab, acre, advanced_geometry, "),
    ("composite?size=3&seed=1", "composite refuses these values (Must specify at least one dataset)"),
    ("countdown?size=3&seed=1&operators=add", "countdown refuses these values"),
    ("complex_arithmetic?size=3&seed=1&operations_weights=1,x", "expected numbers with commas between them"),
    ("gsm_symbolic?size=3&seed=1&difficulty=2", "gsm_symbolic refuses these values"),
    ("gcd?size=3&seed=1&max_value=0", r"gcd refuses these values (max_value must be > min_value)"),
]
PRINT = """
import json
import sys
from hsstar.data.gym_problems import make_rows
size, *tasks = sys.argv[1:]
lines, sys.stdout = sys.stdout, sys.stderr  # some tasks print
made = [[row for _, row in make_rows(f"gym:{task}?size={size}&seed=5")] for task in tasks]
print(json.dumps(made), file=lines)
"""
HASHED = ("isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")
"""Their problems depend on the order of sets."""


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
        list(make_rows(name))
    assert str(refusal.value).startswith(f"{name}: {message}")


def test_without_the_package_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingDependencyError, match=r'install it with pip install "hsstar\[gym\]"'):
        list(make_rows("gym:gcd?size=3&seed=1"))


@pytest.mark.parametrize(("name", "message"), WRONG_VALUES)
def test_a_wrong_value_is_refused_with_what_is_expected(name: str, message: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(BadInputError) as refusal:
        if not list(make_rows(f"gym:{name}")):
            problems_of(f"gym:{name}")
    assert str(refusal.value).startswith(f"gym:{name}")
    assert message in str(refusal.value)


def test_a_refusal_passes_from_the_process_that_makes_problems() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(BadInputError, match=r"^gym:sudok\?size=1&seed=1: reasoning-gym has no task 'sudok'"):
        problems_of("gym:sudok?size=1&seed=1")


def test_only_what_mathematics_can_compare_is_taken_as_mathematics() -> None:
    pytest.importorskip("reasoning_gym")
    refuse_as_mathematics([Path("gym:gcd?size=3&seed=1"), Path("countdown.jsonl")])
    with pytest.raises(BadInputError, match="only reasoning-gym itself can judge its answers: add --verif"):
        refuse_as_mathematics([Path("gym:countdown?size=3&seed=1")])
    with pytest.raises(BadInputError, match="reasoning-gym has no task 'countdwn'"):
        refuse_as_mathematics([Path("gym:countdwn?size=3&seed=1")])


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


@pytest.mark.slow
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


def made_elsewhere(hash_seed: str, size: int, *tasks: str) -> list[list[dict[str, Any]]]:
    """The rows of each task, made by a process with a hash seed."""
    output = subprocess.check_output(
        [sys.executable, "-c", PRINT, str(size), *tasks], env={"PYTHONHASHSEED": hash_seed}, text=True
    )
    made: list[list[dict[str, Any]]] = json.loads(output)
    return made


def test_tasks_that_mathematics_compares_are_the_same_in_every_process() -> None:
    pytest.importorskip("reasoning_gym")
    here = [[row for _, row in make_rows(f"gym:{task}?size=9&seed=5")] for task in COMPARABLE]
    assert made_elsewhere("1", 9, *COMPARABLE) == here


@pytest.mark.slow
@pytest.mark.parametrize("task", HASHED)
def test_a_name_gives_the_same_problems_whatever_the_hash_seed(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = [row for _, row in generate_rows(f"gym:{task}?size=9&seed=5")]
    assert [first] == made_elsewhere("0", 9, task)
    assert [first] != made_elsewhere("1", 9, task)


@pytest.mark.heavy
def test_the_gym_judges_answers_of_every_task_that_it_has() -> None:
    """Also answers of several lines, and tasks that name none, or whose problems depend on their number."""
    pytest.importorskip("reasoning_gym")
    from reasoning_gym.factory import DATASETS

    tasks = sorted(set(DATASETS) - {"composite"})
    rows = [row for made in made_elsewhere("0", 2, *tasks) for row in made]
    problems = [Problem(row["question"], row["answer"], source_id=row["id"]) for row in rows]
    assert len(problems) == 2 * len(tasks) > 200

    def requests(answer: Callable[[Problem], str]) -> list[VerificationRequest]:
        return [
            VerificationRequest(
                f"So:\n<answer>\n{answer(problem)}\n</answer>",
                problem.reference,
                problem=problem.statement,
                source_id=problem.source_id,
            )
            for problem in problems
        ]

    with GymVerifier(GymSettings(), 2) as verifier:
        kinds = verifier.examine(requests(lambda problem: ""))
        right = verifier.verify(requests(lambda problem: problem.reference))
        wrong = verifier.verify(requests(lambda problem: "something else"))
    unusable = [
        problem.source_id for problem, kind in zip(problems, kinds, strict=True) if not kind.is_usable
    ]
    assert unusable == []
    named = [problem.reference != NO_ANSWER for problem in problems]
    assert named.count(False) == 10
    misjudged = [
        (problem.source_id, judgement)
        for problem, judgement, has_answer in zip(problems, right, named, strict=True)
        if (judgement.cause is Cause.CORRECT) != has_answer
    ]
    assert misjudged == []
    lenient = {
        str(problem.source_id).partition("-")[0]
        for problem, judgement in zip(problems, wrong, strict=True)
        if judgement.cause not in (Cause.INCORRECT, Cause.CHECK_FAILED)
    }
    assert lenient == {"game_of_life_halting"}  # whose scorer takes all but True for False


@pytest.mark.parametrize("task", COMPARABLE)
def test_the_verifier_judges_answers_as_the_task_itself_does(task: str, verifier: MathVerifier) -> None:
    gym = pytest.importorskip("reasoning_gym")
    entries = list(gym.create_dataset(task, size=8, seed=5))
    answers = [row["answer"] for _, row in make_rows(f"gym:{task}?size=8&seed=5")]
    pairs = [(answer, entry) for entry in entries for answer in answers]
    requests = [
        VerificationRequest(f"So it is \\boxed{{{answer}}}.", entry["answer"]) for answer, entry in pairs
    ]
    checker = gym.get_score_answer_fn(task)
    for (answer, entry), judgement in zip(pairs, verifier.verify(requests), strict=True):
        assert (judgement.cause == "correct") == (checker(answer, entry) == 1), (answer, entry["answer"])
