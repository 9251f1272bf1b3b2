"""Read the JSON objects in which others ask for a verdict, and write the verdict as one."""

from collections.abc import Mapping
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of
from hsstar.domain.verdict import Judgement
from hsstar.verifier.contract import VerificationRequest


def read_request(row: Mapping[str, Any]) -> VerificationRequest:
    """Return the request in an object with `reference` and either `answer` or `response` (and `truncated`).

    Raise BadInputError if a key is missing, one too many, or its value of the wrong kind.
    """
    if ("answer" in row) == ("response" in row):
        raise BadInputError(f"expected answer or response, found {'both' if 'answer' in row else 'neither'}")
    reference = _text(row, "reference")
    if "answer" in row:
        return VerificationRequest(_text(row, "answer"), reference, is_answer=True)
    return VerificationRequest(_text(row, "response"), reference, truncated=_truncated(row))


def write_judgement(judgement: Judgement) -> dict[str, str | None]:
    """Return `verdict` (null without one), `cause` and `answer` (null if the response has none)."""
    return {"verdict": judgement.verdict, "cause": judgement.cause, "answer": judgement.answer}


def _text(row: Mapping[str, Any], key: str) -> str:
    """Return the text under a key; a number counts as its text."""
    if key not in row:
        raise BadInputError(f"expected {key}, which is missing")
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInputError(f"expected text or a number under {key}, found {kind_of(value)}")
    return str(value)


def _truncated(row: Mapping[str, Any]) -> bool:
    value = row.get("truncated", False)
    if not isinstance(value, bool):
        raise BadInputError(f"expected true or false under truncated, found {kind_of(value)}")
    return value
