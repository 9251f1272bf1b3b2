"""Conversion of rows to samples: problems with responses that were drawn elsewhere."""

from collections.abc import Iterable, Iterator, Mapping

from hsstar.data.columns import Row, keys_of, text_of
from hsstar.data.layouts import read_problem
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem, ProblemFormat
from hsstar.domain.text import kind_of


def read_samples(row: Row) -> ImportedSamples:
    """Return the problem and the responses of a row, which has all responses or one sample.

    A row is `{"problem" | "question" | "query", "answer" | "ref_ans", "responses": [text or
    {"response" | "resp": text, …}, …]}`, or `{"query", "resp", "ref_ans"}`. Raise BadInputError if a key is
    missing or its value of the wrong kind.
    """
    problem = read_problem(row, _problem_format(row))
    if is_single_sample(row):
        return ImportedSamples(problem, (_read_response(row),))
    items = row.get("responses")
    if not isinstance(items, list):
        raise BadInputError(f"expected a list under responses, found keys {keys_of(row)}")
    return ImportedSamples(problem, tuple(_read_response(item) for item in items))


def is_single_sample(row: Row) -> bool:
    """Tell whether a row of imported samples holds one sample, not all responses of a problem."""
    return ("resp" in row or "response" in row) and "responses" not in row


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


def _problem_format(row: Row) -> ProblemFormat:
    if "statement" in row:
        return ProblemFormat.HSSTAR
    return ProblemFormat.PUBLISHED if "query" in row else ProblemFormat.MATH


def _read_response(item: object) -> ImportedResponse:
    if isinstance(item, str):
        return ImportedResponse(item)
    if not isinstance(item, Mapping):
        raise BadInputError(f"expected a response as text or object, found {kind_of(item)}")
    logprob = item.get("cumulative_logprob")
    finish_reason = item.get("finish_reason")
    return ImportedResponse(
        text=text_of(item, "response", "resp"),
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        cumulative_logprob=float(logprob) if isinstance(logprob, int | float) else None,
    )
