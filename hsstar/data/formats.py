"""Conversion of data set rows in every known format to problems and samples."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hsstar.domain.answers import ExtractionRule, extract_answer, strip_math_delimiters
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem, ProblemFormat
from hsstar.domain.text import kind_of, storable

Row = Mapping[str, object]
"""One decoded row of a data set."""


def detect_format(rows: Sequence[Row]) -> ProblemFormat:
    """Return the format of the first rows of a file; raise BadInputError if they fit none."""
    for problem_format, fits in _SIGNS.items():
        if rows and all(fits(row) for row in rows):
            return problem_format
    raise BadInputError(
        "expected rows with problem/question/query and answer/ref_ans/solution, "
        f"found keys {_keys(rows[0] if rows else {})}"
    )


def read_problem(row: Row, problem_format: ProblemFormat) -> Problem:
    """Return the problem in a row of a known format.

    If the keys fit but hold no answer (no box, an empty answer), the reference is empty: the import reports
    the problem as unverifiable and continues. Raise BadInputError if a key is missing or its value of the
    wrong kind.
    """
    if problem_format is ProblemFormat.AUTO:
        problem_format = detect_format([row])
    return _READERS[problem_format](row)


def read_samples(row: Row) -> ImportedSamples:
    """Return the problem and the responses of a row, which has all responses or one sample.

    A row is `{"problem" | "question" | "query", "answer" | "ref_ans", "responses": [text or
    {"response" | "resp": text, …}, …]}`, or `{"query", "resp", "ref_ans"}`. Raise BadInputError if a key is
    missing or its value of the wrong kind.
    """
    problem = _read_published(row) if "query" in row else _read_plain(row)
    if is_single_sample(row):
        return ImportedSamples(problem, (_read_response(row),))
    items = row.get("responses")
    if not isinstance(items, list):
        raise BadInputError(f"expected a list under responses, found keys {_keys(row)}")
    return ImportedSamples(problem, tuple(_read_response(item) for item in items))


def is_single_sample(row: Row) -> bool:
    """Tell whether a row of imported samples holds one sample, not all responses of a problem."""
    return "resp" in row and "responses" not in row


def group_samples(samples: Iterable[ImportedSamples]) -> Iterator[ImportedSamples]:
    """Group samples by problem, both in order of appearance; all are held in memory."""
    problems: dict[str, Problem] = {}
    responses: dict[str, list[ImportedResponse]] = {}
    for sample in samples:
        key = sample.problem.key
        problems.setdefault(key, sample.problem)
        responses.setdefault(key, []).extend(sample.responses)
    for key, problem in problems.items():
        yield ImportedSamples(problem, tuple(responses[key]))


def _read_gsm8k(row: Row) -> Problem:
    worked = _text(row, "answer")
    _, mark, final = worked.rpartition("####")
    if not mark:
        raise BadInputError('expected a worked answer that ends with "#### 18", found none under answer')
    return Problem(
        statement=_statement(row, "question", "problem"),
        reference=_without_separators(final),
        solution=worked,
        source_id=_source_id(row),
    )


def _read_plain(row: Row) -> Problem:
    solution = _optional_text(row, "solution")
    reference = _reference(row, "answer", "final_answer", "ref_ans")
    if reference is None and solution is None:
        raise BadInputError(f"expected answer, final_answer or solution, found keys {_keys(row)}")
    return Problem(
        statement=_statement(row, "problem", "question"),
        reference=reference if reference is not None else _boxed(solution or ""),
        solution=solution,
        subject=_optional_text(row, "subject", "type", "subfield", "data_topic"),
        level=_level(row),
        source_id=_source_id(row),
    )


def _read_numina(row: Row) -> Problem:
    asked, solved = _conversation(row)
    solution = _optional_text(row, "solution") or solved
    reference = _reference(row, "answer", "ref_answer")
    if reference is None and solution is None:
        raise BadInputError(f"expected solution, messages, answer or ref_answer, found keys {_keys(row)}")
    if not reference or reference.lower() in _NO_REFERENCE:
        reference = _boxed(solution or "")
    return Problem(
        statement=asked if asked and "problem" not in row else _statement(row, "problem"),
        reference=reference,
        solution=solution,
        subject=_optional_text(row, "problem_type", "source"),
        source_id=_source_id(row),
    )


def _read_published(row: Row) -> Problem:
    reference = _reference(row, "ref_ans", "answer")
    if reference is None:
        raise BadInputError(f"expected query and ref_ans, found keys {_keys(row)}")
    return Problem(statement=_statement(row, "query"), reference=reference, source_id=_source_id(row))


_READERS: dict[ProblemFormat, Callable[[Row], Problem]] = {
    ProblemFormat.GSM8K: _read_gsm8k,
    ProblemFormat.MATH: _read_plain,
    ProblemFormat.NUMINA: _read_numina,
    ProblemFormat.PUBLISHED: _read_published,
}


_SIGNS: dict[ProblemFormat, Callable[[Row], bool]] = {
    ProblemFormat.PUBLISHED: lambda row: "query" in row,
    ProblemFormat.GSM8K: lambda row: "question" in row and "####" in str(row.get("answer")),
    ProblemFormat.NUMINA: lambda row: (
        "messages" in row or "ref_answer" in row or {"problem", "source", "solution"} <= row.keys()
    ),
    ProblemFormat.MATH: lambda row: (
        ("problem" in row or "question" in row)
        and ("answer" in row or "final_answer" in row or "solution" in row)
    ),
}


_NO_REFERENCE = frozenset({"proof", "notfound", "not found", "none"})


def _read_response(item: object) -> ImportedResponse:
    if isinstance(item, str):
        return ImportedResponse(item)
    if not isinstance(item, Mapping):
        raise BadInputError(f"expected a response as text or object, found {kind_of(item)}")
    logprob = item.get("cumulative_logprob")
    finish_reason = item.get("finish_reason")
    return ImportedResponse(
        text=_text(item, "response", "resp"),
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        cumulative_logprob=float(logprob) if isinstance(logprob, int | float) else None,
    )


def _conversation(row: Row) -> tuple[str | None, str | None]:
    """Return the first user turn and the first assistant turn under `messages`; None without messages."""
    messages = row.get("messages")
    if messages is None:
        return None, None
    turns: dict[object, str] = {}
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, Mapping) and isinstance(message.get("content"), str):
            turns.setdefault(message.get("role"), message["content"])
    if "user" not in turns or "assistant" not in turns:
        raise BadInputError("expected messages with a user turn and an assistant turn")
    return turns["user"], turns["assistant"]


def _statement(row: Row, *keys: str) -> str:
    statement = storable(_text(row, *keys)).strip()
    if not statement:
        raise BadInputError(f"expected a statement under {' or '.join(keys)}, found empty text")
    return statement


def _text(row: Row, *keys: str) -> str:
    for key in keys:
        if key in row:
            value = row[key]
            if not isinstance(value, str):
                raise BadInputError(f"expected text under {key}, found {kind_of(value)}")
            return value
    raise BadInputError(f"expected {' or '.join(keys)}, found keys {_keys(row)}")


def _optional_text(row: Row, *keys: str) -> str | None:
    """Return the text under the first key that holds any; several texts are joined by blank lines."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n\n".join(value)
        if isinstance(value, str) and value:
            return storable(value)
    return None


def _reference(row: Row, *keys: str) -> str | None:
    for key in keys:
        if key in row:
            return storable(_answer_text(key, row[key]))
    return None


def _answer_text(key: str, value: object) -> str:
    """Return an answer as text: several are joined by commas, a whole number loses its ".0"."""
    if value is None:
        return ""
    if isinstance(value, str):
        return strip_math_delimiters(value)
    if isinstance(value, list):
        return ", ".join(_answer_text(key, part) for part in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInputError(f"expected text or a number under {key}, found {kind_of(value)}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _boxed(solution: str) -> str:
    answer = extract_answer(solution)
    return storable(answer.text) if answer and answer.rule is ExtractionRule.BOXED else ""


_SEPARATED_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def _without_separators(text: str) -> str:
    return storable(_SEPARATED_NUMBER.sub("", text.strip().removeprefix("$")).strip())


def _level(row: Row) -> str | None:
    value = row.get("level")
    return None if value is None else str(value).removeprefix("Level ").strip()


def _source_id(row: Row) -> str | None:
    for key in ("unique_id", "id", "idx", "question_number"):
        value = row.get(key)
        if isinstance(value, str | int):
            return str(value)
    return None


def _keys(row: Row) -> str:
    return ", ".join(sorted(map(str, row))) or "none"
