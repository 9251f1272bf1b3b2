"""Answers of HTTP servers: how long to wait, what went wrong, and what they hold."""

import logging
import random
import time
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import httpx2

from hsstar.domain.errors import EngineError

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every request

TOO_BUSY = frozenset({429, 502, 503, 504})
"""States in which a server may take the same request later."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
_SHOWN_CHARACTERS = 300


def pause_seconds(attempt: int) -> float:
    """Return how long to wait before the next attempt: twice as long each time, up to the longest pause."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))
    return longest * random.uniform(0.5, 1)  # noqa: S311  # spreads retries, keeps no secret


def retry_after(response: httpx2.Response) -> float:
    """Return the seconds that the server asks us to wait, by either form of its header; 0 without one."""
    value = response.headers.get("retry-after", "")
    try:
        seconds = float(value)
        return max(0.0, seconds) if isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def described(error: Exception) -> str:
    """Return an error of the connection in words."""
    return str(error) or type(error).__name__


def message_of(response: httpx2.Response, secret: str = "") -> str:
    """Return what a server says about a failure, on one line, without the secret."""
    try:
        content = response.json()
        text = content.get("error", content)
        if isinstance(text, dict):
            text = text.get("message") or text.get("detail") or content
    except (ValueError, AttributeError):
        text = response.text
    line = " ".join(str(text).split())
    if secret:  # before the cut, which might leave a part of it
        line = line.replace(secret, "…")
    return line[:_SHOWN_CHARACTERS] or "no reason given"


def json_object(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; raise EngineError if it is something else."""
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise EngineError(f"{response.url} answers with something else than a JSON object")
    return content
