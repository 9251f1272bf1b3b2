"""The layouts in which problems are published: how each is recognised, and where its parts stand.

`LAYOUTS` is in the order in which layouts are recognised; docs/formats.md shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hsstar.data.choices import Choices, choices_of
from hsstar.data.columns import (
    Row,
    chat_of,
    first_value,
    has,
    is_blank,
    keys_of,
    listed,
    lowered,
    optional_label,
    optional_text,
    statement_of,
    text_of,
)
from hsstar.data.programs import ReadParts, apps, humaneval, livecodebench, mbpp, name_of, tests_text
from hsstar.data.references import (
    announced_answer,
    boxed_answer,
    marked_answer,
    reference_text,
)
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat

_NAMES = (
    "unique_id", "id", "idx", "question_number", "uuid", "question_id", "problem_id", "extra_info.index",
)  # fmt: skip
_LONGEST_BARE_ANSWER = 200
_PROOFS = {"question_type": "proof", "problem_type": "converted_proof"}
"""Columns in which a source marks a proof, and how."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a layout has the parts of a problem, the first column that has a value; paths as in `--map`."""

    format: ProblemFormat
    published: str  # who publishes it
    sign: str  # how it is recognised, in words
    fits: Callable[[Row], bool]
    statement: tuple[str, ...]
    reference: tuple[str, ...] = ()
    solution: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    level: tuple[str, ...] = ()
    final: Callable[[str], str] = boxed_answer  # finds the reference in the solution of a row without one
    worked: bool = False  # the reference may be a whole solution

    def read(self, row: Row) -> Problem:
        """Return the problem in a row; errors as in `read_problem`."""
        solution = optional_text(row, *self.solution)
        statement, reference = statement_of(row, *self.statement), self._reference(row, solution)
        if _asks_for_proof(row):
            reference = ""
        return Problem(
            statement=statement,
            reference=reference,
            solution=solution,
            subject=optional_label(row, *self.subject),
            level=_level(row, self.level),
            source_id=optional_label(row, *_NAMES),
            doubt=_doubt(row),
        )

    def _reference(self, row: Row, solution: str | None) -> str:
        if not self.reference:
            return self.final(text_of(row, *self.solution))
        entry = first_value(row, self.reference)
        if entry is None and solution is None:
            expected = listed((*self.reference, *self.solution))
            raise BadInputError(f"expected {expected}, found keys {keys_of(row)}")
        if entry is None or is_blank(entry[1]):
            return self.final(solution or "")
        path, value = entry
        if isinstance(value, str) and (self.worked or r"\boxed" in value):
            return announced_answer(value) or reference_text(path, value)
        return reference_text(path, value)


@dataclass(frozen=True, slots=True)
class ChoiceLayout(Layout):
    """A layout of multiple choice."""

    def read(self, row: Row) -> Problem:
        """Return the problem with its choices in the statement, and the letter of the right one."""
        entry, answer = choices_of(row), first_value(row, self.reference)
        if entry is None or answer is None:
            expected = listed(("choices", "options") if entry is None else self.reference)
            raise BadInputError(f"expected {expected}, found keys {keys_of(row)}")
        choices = Choices(*entry)
        return Problem(
            statement=choices.stated(statement_of(row, *self.statement)),
            reference=choices.letter(*answer),
            solution=optional_text(row, *self.solution),
            subject=optional_label(row, *self.subject),
            level=_level(row, self.level),
            source_id=optional_label(row, *_NAMES),
            doubt=_doubt(row),
        )


@dataclass(frozen=True, slots=True)
class ProgramLayout(Layout):
    """A layout of problems that ask for a program; `reference` names the columns of its tests."""

    parts: ReadParts = humaneval

    def read(self, row: Row) -> Problem:
        """Return the problem with its tests as reference."""
        parts = self.parts(row)
        return Problem(
            statement=parts.statement,
            reference=tests_text(parts.tests),
            solution=parts.solution,
            subject=optional_label(row, *self.subject),
            level=_level(row, self.level),
            source_id=name_of(row),
        )


def detect_format(rows: Sequence[Row], *, tolerant: bool = False) -> ProblemFormat:
    """Return the format that all of the first rows of a file fit, with `tolerant` the one that most fit.

    Raise BadInputError if they fit none.
    """
    plain = [lowered(row) for row in rows]
    fitting = {layout.format: sum(map(layout.fits, plain)) for layout in LAYOUTS}
    for layout_format, count in fitting.items():
        if count and count == len(rows):
            return layout_format
    most = max(fitting, key=fitting.__getitem__)
    if tolerant and fitting[most]:
        return most
    raise BadInputError(
        "expected rows with problem/question/query/prompt and answer/ref_ans/solution, found keys "
        f"{keys_of(rows[0] if rows else {})}; say where they are: --map statement=KEY --map reference=KEY"
    )


def read_problem(row: Row, problem_format: ProblemFormat) -> Problem:
    """Return the problem in a row of a known format.

    If the keys fit but hold no answer (no box, an empty answer, `proof`), the reference is empty: the import
    reports the problem as unverifiable and continues. Raise BadInputError if a key is missing or its value of
    the wrong kind. A row with choices is read as multiple choice in every layout but hsstar's own: without
    them its letter or position would mean nothing.
    """
    row = lowered(row)
    if problem_format is ProblemFormat.AUTO:
        problem_format = detect_format([row])
    if problem_format is not ProblemFormat.HSSTAR and _offers_choices(row):
        problem_format = ProblemFormat.CHOICES
    return _BY_FORMAT[problem_format].read(row)


def _level(row: Row, paths: Sequence[str]) -> str | None:
    level = optional_label(row, *paths)
    return None if level is None else level.removeprefix("Level ").strip()


def _doubt(row: Row) -> str | None:
    """Return what the source itself says against a problem."""
    for key in ("problem_is_valid", "solution_is_valid"):
        value = row.get(key)
        if isinstance(value, str) and value.casefold() != "yes":
            return f"{key}: {value}"
    return next((f"{key}: {row[key]}" for key in _PROOFS if _is_proof(row, key)), None)


def _asks_for_proof(row: Row) -> bool:
    return any(_is_proof(row, key) for key in _PROOFS)


def _is_proof(row: Row, key: str) -> bool:
    return str(row.get(key)).casefold() == _PROOFS[key]


def _marked(worked: str) -> str:
    if "####" not in worked:
        raise BadInputError('expected a worked answer that ends with "#### 18", found none under answer')
    return marked_answer(worked)


def _final_or_bare(solution: str) -> str:
    """Return the answer that a solution marks, or the solution itself if it is no more than an answer."""
    bare = solution if len(solution) <= _LONGEST_BARE_ANSWER and "\n" not in solution.strip() else ""
    return announced_answer(solution) or reference_text("solution", bare)


def _is_question(row: Row) -> bool:
    return any(has(row, key) for key in ("question", "problem", "query", "prompt"))


def _offers_choices(row: Row) -> bool:
    entry = choices_of(row)
    return _is_question(row) and entry is not None and isinstance(entry[1], list | Mapping)


def _asks_only(row: Row) -> bool:
    """Tell whether messages are a chat that no assistant has answered."""
    chat = chat_of(row.get("messages"))
    return chat is not None and all(turn.get("role") != "assistant" for turn in chat)


LAYOUTS = (
    Layout(
        ProblemFormat.HSSTAR,
        "hsstar, and rows read by `--map`",
        "`statement` with `reference` or `solution`",
        lambda row: has(row, "statement") and (has(row, "reference") or has(row, "solution")),
        statement=("statement",),
        reference=("reference",),
        solution=("solution",),
        subject=("subject",),
        level=("level",),
        final=_final_or_bare,
    ),
    ChoiceLayout(
        ProblemFormat.CHOICES,
        "MMLU, MMLU-Pro, CMMLU, ARC, AQuA, MathQA",
        "`choices`, `options`, or columns `A`, `B`, … beside a question",
        lambda row: _is_question(row) and choices_of(row) is not None,
        statement=("question", "problem", "query", "prompt"),
        reference=("answer", "answerkey", "correct", "answer_index", "answer_idx", "label", "target"),
        solution=("solution", "rationale", "explanation", "cot_content"),
        subject=("subject", "category", "type"),
        level=("level", "difficulty"),
    ),
    ProgramLayout(
        ProblemFormat.HUMANEVAL,
        "HumanEval, EvalPlus",
        "`prompt` with `test` and `entry_point`",
        lambda row: has(row, "prompt", "test", "entry_point"),
        statement=("prompt",),
        reference=("test",),
        solution=("canonical_solution",),
        parts=humaneval,
    ),
    ProgramLayout(
        ProblemFormat.MBPP,
        "MBPP",
        "`text` or `prompt` with `test_list`",
        lambda row: has(row, "test_list") and (has(row, "text") or has(row, "prompt")),
        statement=("text", "prompt"),
        reference=("test_list",),
        solution=("code",),
        parts=mbpp,
    ),
    ProgramLayout(
        ProblemFormat.APPS,
        "APPS, TACO",
        "`question` or `prompt` with `input_output`",
        lambda row: has(row, "input_output") and (has(row, "question") or has(row, "prompt")),
        statement=("question", "prompt"),
        reference=("input_output",),
        solution=("solutions",),
        subject=("source",),
        level=("difficulty",),
        parts=apps,
    ),
    ProgramLayout(
        ProblemFormat.LIVECODEBENCH,
        "LiveCodeBench",
        "`question_content` with `public_test_cases`",
        lambda row: has(row, "question_content", "public_test_cases"),
        statement=("question_content",),
        reference=("public_test_cases",),
        subject=("platform",),
        level=("difficulty",),
        parts=livecodebench,
    ),
    Layout(
        ProblemFormat.VERL,
        "verl, DAPO-Math, Skywork-OR1",
        "`prompt` with `reward_model.ground_truth`",
        lambda row: has(row, "prompt", "reward_model.ground_truth"),
        statement=("prompt",),
        reference=("reward_model.ground_truth",),
        solution=("extra_info.answer",),
        subject=("data_source",),
    ),
    Layout(
        ProblemFormat.OPENMATHREASONING,
        "OpenMathReasoning, OpenMathInstruct",
        "`problem` with `expected_answer`",
        lambda row: has(row, "problem", "expected_answer"),
        statement=("problem",),
        reference=("expected_answer",),
        solution=("generated_solution",),
        subject=("problem_source",),
    ),
    Layout(
        ProblemFormat.DEEPMATH,
        "DeepMath",
        "`question` with `final_answer` and `r1_solution_1` or `topic`",
        lambda row: has(row, "question", "final_answer") and (has(row, "r1_solution_1") or has(row, "topic")),
        statement=("question",),
        reference=("final_answer",),
        solution=("r1_solution_1",),
        subject=("topic",),
        level=("difficulty",),
    ),
    Layout(
        ProblemFormat.BIGMATH,
        "Big-Math",
        "`problem` with `answer` and `llama8b_solve_rate` or `domain`",
        lambda row: has(row, "problem", "answer") and (has(row, "llama8b_solve_rate") or has(row, "domain")),
        statement=("problem",),
        reference=("answer",),
        solution=("solution",),
        subject=("domain", "source"),
    ),
    Layout(
        ProblemFormat.METAMATH,
        "MetaMathQA",
        "`query` with `response`, and no `ref_ans` or `answer`",
        lambda row: has(row, "query", "response") and not (has(row, "ref_ans") or has(row, "answer")),
        statement=("query",),
        solution=("response",),
        subject=("type",),
        final=announced_answer,
    ),
    Layout(
        ProblemFormat.PUBLISHED,
        "HS-STaR",
        "`query` with `ref_ans` or `answer`",
        lambda row: has(row, "query") and (has(row, "ref_ans") or has(row, "answer")),
        statement=("query",),
        reference=("ref_ans", "answer"),
    ),
    Layout(
        ProblemFormat.OPENR1,
        "OpenR1-Math",
        "`problem` with `answer` and `generations`",
        lambda row: has(row, "problem", "answer", "generations"),
        statement=("problem",),
        reference=("answer",),
        solution=("solution",),
        subject=("problem_type", "source"),
    ),
    Layout(
        ProblemFormat.ACEMATH,
        "AceMath",
        "`messages` without an answer of the assistant, with `answer`",
        lambda row: _asks_only(row) and has(row, "answer"),
        statement=("messages",),
        reference=("answer",),
        subject=("source",),
        worked=True,
    ),
    Layout(
        ProblemFormat.NUMINA,
        "NuminaMath",
        "`messages`, `ref_answer`, or `problem` with `source` and `solution`",
        lambda row: (
            has(row, "messages") or has(row, "ref_answer") or has(row, "problem", "source", "solution")
        ),
        statement=("problem", "messages"),
        reference=("answer", "ref_answer"),
        solution=("solution", "messages"),
        subject=("problem_type", "source"),
    ),
    Layout(
        ProblemFormat.TRL,
        "TRL",
        "`prompt` with `answer` or `solution`",
        lambda row: has(row, "prompt") and (has(row, "answer") or has(row, "solution")),
        statement=("prompt",),
        reference=("answer",),
        solution=("solution",),
        subject=("source", "data_source"),
        final=_final_or_bare,
        worked=True,
    ),
    Layout(
        ProblemFormat.GSM8K,
        "GSM8K",
        "`question`, and `####` in `answer`",
        lambda row: has(row, "question") and "####" in str(row.get("answer")),
        statement=("question", "problem"),
        solution=("answer",),
        final=_marked,
    ),
    Layout(
        ProblemFormat.MATH,
        "MATH and most others",
        "`problem` or `question` with `answer`, `final_answer` or `solution`",
        lambda row: (
            (has(row, "problem") or has(row, "question"))
            and (has(row, "answer") or has(row, "final_answer") or has(row, "solution"))
        ),
        statement=("problem", "question"),
        reference=("answer", "final_answer", "ref_ans"),
        solution=("solution",),
        subject=("subject", "type", "subfield", "data_topic"),
        level=("level",),
    ),
)

_BY_FORMAT = {layout.format: layout for layout in LAYOUTS}
