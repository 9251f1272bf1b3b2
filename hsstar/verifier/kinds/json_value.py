"""`json`: the answer is JSON with the value of the reference, compared as data."""

import json
from collections.abc import Sequence
from typing import Any

from hsstar.domain.verdict import Cause, CheckResult
from hsstar.domain.verification import JsonSettings
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.kinds.base import final_answer
from hsstar.verifier.kinds.texts import TextVerifier
from hsstar.verifier.references import ReferenceKind

_FENCE = "```"
_LONGEST = 1_000_000


class JsonVerifier(TextVerifier):
    """Compare JSON as data: the order of keys, spaces, and 1 or 1.0 do not count (contract `Verifier`)."""

    def __init__(self, settings: JsonSettings, processes: int | None = None) -> None:
        super().__init__(settings, processes)
        self._keys = settings.keys

    def compare(self, answer: str, request: VerificationRequest) -> CheckResult:
        """Compare the value of an answer with that of the reference."""
        try:
            reference = _read(request.reference)
        except ValueError as error:
            return CheckResult(Cause.BAD_REFERENCE, f"the reference is not JSON: {error}")
        try:
            value = _read(answer)
        except ValueError as error:
            return CheckResult(Cause.UNPARSABLE, f"the answer is not JSON: {error}")
        if not self._keys:
            return CheckResult(Cause.CORRECT if _same(value, reference) else Cause.INCORRECT)
        for key in self._keys:
            wanted = _part(reference, key)
            if wanted is _ABSENT:
                return CheckResult(Cause.BAD_REFERENCE, f"the reference has no key {key!r}")
            if not _same(_part(value, key), wanted):
                return CheckResult(Cause.INCORRECT, f"another value under {key!r}")
        return CheckResult(Cause.CORRECT)

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """A reference has to be JSON that equals itself."""
        causes = [self.compare(request.reference, request).cause for request in requests]
        return [
            ReferenceKind.VALUE if cause is Cause.CORRECT else ReferenceKind.UNREADABLE for cause in causes
        ]

    def _answers(self, requests: Sequence[VerificationRequest]) -> list[str | CheckResult]:
        """Return the last fenced block of a response, else all of it if that is JSON, else the answer."""
        if self._patterns is not None:
            return super()._answers(requests)
        answers = [_json_text(request) for request in requests]
        return [CheckResult(Cause.NO_ANSWER) if answer is None else answer for answer in answers]


_ABSENT = object()


def _json_text(request: VerificationRequest) -> str | None:
    text = request.response.rpartition("</think>")[2]
    fenced = text.split(_FENCE)
    if len(fenced) > 2:
        block = fenced[len(fenced) - 2 + len(fenced) % 2 - 1]
        return block.removeprefix("json").strip()
    if text.strip()[:1] in ("{", "["):
        return text.strip()
    return final_answer(request)


def _read(text: str) -> Any:
    """Return a value; raise ValueError, also for NaN, equal keys, and what is too long or nested too deep."""
    if len(text) > _LONGEST:
        raise ValueError(f"more than {_LONGEST:,} characters")
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a key appears twice")
    return read


def _part(value: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
