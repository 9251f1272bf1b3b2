"""Verdicts on answers without a database, as `hsstar verify` gives them."""

from collections.abc import Iterable, Mapping
from typing import Any

from hsstar.data.rows import naming
from hsstar.domain.text import storable
from hsstar.domain.verdict import Judgement
from hsstar.verifier import Explanation, MathVerifier
from hsstar.verifier.requests import read_request


def verify(
    rows: Iterable[Mapping[str, Any]],
    *,
    processes: int | None = None,
    deadline_seconds: float = 3.0,
    memory_limit_mb: int = 1024,
) -> list[Judgement]:
    """Return a judgement (`verdict`, `cause`, `answer`) per row, in order.

    A row has `reference`, and either `answer`, the final answer itself, or `response`, a whole response whose
    final answer is extracted; `truncated` says that it was cut at its token limit. The other arguments are
    those of `hsstar.verifier.MathVerifier`. Raise BadInputError, which names the row by its place from 1, if
    it holds something else.
    """
    requests = []
    for place, row in enumerate(rows, start=1):
        with naming("rows", place):
            requests.append(read_request(row))
    with MathVerifier(processes, deadline_seconds, memory_limit_mb) as verifier:
        return verifier.verify(requests)


def explain(answer: str, reference: str) -> Explanation:
    """Say how an answer, or the final one of a whole response, is compared with a reference."""
    with MathVerifier(1) as verifier:
        return verifier.explain(storable(answer), storable(reference))
