"""The layouts in which samples are published: how each is recognised, and where its parts stand.

`SAMPLE_LAYOUTS` is in the order in which layouts are recognised; docs/formats.md shows it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsstar.data.columns import (
    Row,
    first_value,
    has,
    keys_of,
    listed,
    lowered,
    optional_label,
    optional_text,
    statement_of,
)
from hsstar.data.references import boxed_answer, reference_text
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem
from hsstar.domain.text import kind_of

_NAMES = ("unique_id", "id", "idx", "question_number", "uuid")
_CUT = "length"


@dataclass(frozen=True, slots=True)
class SampleLayout:
    """Where a layout has problem and responses; of several columns the first that a row has."""

    published: str  # who publishes it
    statement: tuple[str, ...]
    reference: tuple[str, ...]
    response: str  # the column of one response, or of a list of them
    several: bool = False  # a row has all responses of its problem

    def fits(self, row: Row) -> bool:
        """Tell whether a row has the columns of statement and responses."""
        return has(row, self.response) and any(has(row, key) for key in self.statement)

    def read(self, row: Row) -> ImportedSamples:
        """Return problem and responses of a row; raise BadInputError if a value is of the wrong kind."""
        return ImportedSamples(self._problem(row), tuple(self._responses(row)))

    def _problem(self, row: Row) -> Problem:
        entry, solution = first_value(row, self.reference), optional_text(row, "solution")
        reference = boxed_answer(solution or "") if entry is None else reference_text(*entry)
        level = optional_label(row, "level")
        return Problem(
            statement=statement_of(row, *self.statement),
            reference=reference,
            solution=solution,
            subject=optional_label(row, "subject", "type", "subfield", "data_topic", "problem_type"),
            level=None if level is None else level.removeprefix("Level ").strip(),
            source_id=optional_label(row, *_NAMES),
        )

    def _responses(self, row: Row) -> Iterator[ImportedResponse]:
        if not has(row, self.response):
            raise BadInputError(f"expected {self.response}, found keys {keys_of(row)}")
        value = row[self.response]
        if not self.several:
            yield _read_response({**row, "response": value})
            return
        if not isinstance(value, list):
            raise BadInputError(f"expected a list under {self.response}, found {kind_of(value)}")
        reasons = _finish_reasons(row, len(value))
        for item, reason in zip(value, reasons, strict=True):
            response = item if isinstance(item, Mapping) else {"response": item, "finish_reason": reason}
            yield _read_response(response)


@dataclass(frozen=True, slots=True)
class BatchLayout(SampleLayout):
    """The output of a batch of requests: the problem is known by its name alone."""

    def read(self, row: Row) -> ImportedSamples:
        """Return the responses to one request; raise BadInputError if it has failed."""
        name = optional_label(row, *self.statement)
        if name is None:
            raise BadInputError(f"expected text under {listed(self.statement)}")
        return ImportedSamples(Problem("", "", source_id=name), tuple(self._responses(row)))

    def _responses(self, row: Row) -> Iterator[ImportedResponse]:
        answer = row.get(self.response)
        body = answer.get("body") if isinstance(answer, Mapping) else None
        choices = body.get("choices") if isinstance(body, Mapping) else None
        if not isinstance(choices, list) or not choices:
            reason = row.get("error") or (body or {}).get("error") or "no choices under response.body"
            raise BadInputError(f"the request {row.get('custom_id')} has no response: {reason}")
        for choice in choices:
            if not isinstance(choice, Mapping):
                raise BadInputError(f"expected choices as objects, found {kind_of(choice)}")
            yield _read_response({"response": _content(choice), "finish_reason": choice.get("finish_reason")})


SAMPLE_LAYOUTS = (
    BatchLayout("vLLM, OpenAI: batch output", ("custom_id",), (), "response", several=True),
    SampleLayout(
        "hsstar",
        ("statement", "problem", "question", "query"),
        ("reference", "answer", "ref_ans", "final_answer"),
        "responses",
        several=True,
    ),
    SampleLayout("RLHFlow", ("prompt",), ("gt", "answer"), "responses", several=True),
    SampleLayout("OpenR1-Math", ("problem",), ("answer",), "generations", several=True),
    SampleLayout("HS-STaR", ("query",), ("ref_ans", "answer"), "resp"),
    SampleLayout("DART-Math", ("query",), ("ref_ans", "answer"), "response"),
    SampleLayout("NeMo-Skills", ("problem", "question"), ("expected_answer",), "generation"),
    SampleLayout("OpenMathReasoning", ("problem",), ("expected_answer",), "generated_solution"),
    SampleLayout("OpenRLHF", ("input",), ("label", "answer"), "output"),
    SampleLayout(
        "hsstar, and rows read by `--map`",
        ("statement", "problem", "question"),
        ("reference", "answer", "ref_ans", "final_answer"),
        "response",
    ),
)


def detect_samples(rows: Sequence[Row], *, tolerant: bool = False) -> SampleLayout:
    """Return the layout that all of the first rows of a file fit, with `tolerant` the one that most fit.

    Raise BadInputError if they fit none.
    """
    plain = [lowered(row) for row in rows]
    fitting = [sum(map(layout.fits, plain)) for layout in SAMPLE_LAYOUTS]
    most = max(fitting)
    if most and (tolerant or most == len(rows)):
        return SAMPLE_LAYOUTS[fitting.index(most)]
    columns = dict.fromkeys(layout.response for layout in SAMPLE_LAYOUTS)
    raise BadInputError(
        f"expected rows with a problem and {listed(tuple(columns))}, "
        f"found keys {keys_of(rows[0] if rows else {})}; "
        "say where they are: --map statement=KEY --map reference=KEY --map response=KEY"
    )


def read_samples(row: Row, layout: SampleLayout | None = None) -> ImportedSamples:
    """Return the problem and the responses of a row, by its own layout if none is given.

    A problem without a statement is known by its `source_id`, one without a reference by its statement: the
    data set tells the rest. Raise BadInputError if a key is missing or its value of the wrong kind.
    """
    row = lowered(row)
    return (layout or detect_samples([row])).read(row)


def hold_samples(rows: Sequence[Row]) -> bool:
    """Tell whether most rows are one sample with its problem each."""
    return 2 * sum(map(_is_single_sample, map(lowered, rows))) > len(rows)


def _is_single_sample(row: Row) -> bool:
    layout = next((layout for layout in SAMPLE_LAYOUTS if layout.fits(row)), None)
    return layout is not None and not layout.several


def group_samples(samples: Iterable[ImportedSamples]) -> Iterator[ImportedSamples]:
    """Group samples by problem, both in order of appearance; all are held in memory."""
    problems: dict[str, Problem] = {}
    responses: dict[str, list[ImportedResponse]] = {}
    for sample in samples:
        key = known_by(sample.problem)
        problems.setdefault(key, sample.problem)
        responses.setdefault(key, []).extend(sample.responses)
    for key, problem in problems.items():
        yield ImportedSamples(problem, tuple(responses[key]))


def known_by(problem: Problem) -> str:
    """Return what tells a problem from others: the key of its statement, without one its name."""
    return problem.key if problem.statement else f"name:{problem.source_id}"


def _read_response(item: Any) -> ImportedResponse:
    if not isinstance(item, Mapping):
        raise BadInputError(f"expected a response as text or object, found {kind_of(item)}")
    entry = first_value(item, ("response", "resp"))
    if entry is None:
        raise BadInputError(f"expected response or resp, found keys {keys_of(item)}")
    key, value = entry
    if not isinstance(value, str):
        expected = "a response as text or object" if key == "response" else f"text under {key}"
        raise BadInputError(f"expected {expected}, found {kind_of(value)}")
    logprob, reason = item.get("cumulative_logprob"), item.get("finish_reason")
    return ImportedResponse(
        text=value,
        finish_reason=reason if isinstance(reason, str) else None,
        cumulative_logprob=float(logprob) if isinstance(logprob, int | float) else None,
    )


def _finish_reasons(row: Row, count: int) -> Sequence[Any]:
    """Return the finish reason of each response; OpenR1 may tell only which are complete."""
    reasons, complete = row.get("finish_reasons"), row.get("is_reasoning_complete")
    if isinstance(reasons, list) and len(reasons) == count:
        return reasons
    if isinstance(complete, list) and len(complete) == count:
        return [_CUT if done is False else None for done in complete]
    return [None] * count


def _content(choice: Mapping[str, Any]) -> Any:
    """Return the text of a choice, of a completion or a chat, with the thoughts that the server split off."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return choice.get("text")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content")
    if not isinstance(thoughts, str):
        return content
    return f"<think>\n{thoughts}" + (f"\n</think>\n\n{content}" if content else "")
