"""Sends notifications to webhooks: at least once, with attempts over a day, outside of any transaction."""

import json
import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from hsstar import __version__
from hsstar.domain.errors import BadInputError, HsstarError
from hsstar.remote.secrets import read_secret
from hsstar.store import notifications
from hsstar.store.database import Database
from hsstar.store.notifications import Notification

log = logging.getLogger("hsstar.worker")

_SECONDS = 10.0
"""For each step of a request; shorter than the pause before the next attempt."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class NotSentError(HsstarError):
    """A webhook did not take a notification; another attempt may succeed."""


class _NoRedirects(HTTPRedirectHandler):
    """A redirected POST would become a GET without its body."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def send_due(database: Database, environ: Mapping[str, str] = os.environ) -> None:
    """Send the notifications that are due, one after the other; record what came of each."""
    while (notification := database.run(notifications.claim, single=True)) is not None:
        try:
            post(notification, environ)
        except HsstarError as error:
            log.warning("a notification of run %s is not sent: %s", notification.run, error)
            record = partial(notifications.record_error, notification_id=notification.id, error=str(error))
        else:
            record = partial(notifications.record_sent, notification_id=notification.id)
        database.run(record)


def post(notification: Notification, environ: Mapping[str, str]) -> None:
    """Send one notification; raise NotSentError if the webhook did not take it, or where to is unknown."""
    body = json.dumps(message(notification), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"hsstar/{__version__}"}
    url = _address(notification.url, environ)
    try:
        request = Request(url, body, headers, method="POST")  # noqa: S310  # `_address` lets only HTTP through
        with build_opener(_NoRedirects).open(request, timeout=_SECONDS):
            pass
    except HTTPError as error:
        raise NotSentError(f"the webhook answers {error.code}") from None
    except URLError as error:
        raise NotSentError(f"the webhook cannot be reached: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NotSentError(f"the webhook does not answer: {type(error).__name__}") from None


def message(notification: Notification) -> dict[str, str | int]:
    """Return the JSON object of a notification. The same `id` again is the same event."""
    return {
        "id": notification.id,
        "event": notification.event,
        "run": notification.run,
        "detail": notification.detail,
        "at": notification.decided_at.astimezone(UTC).isoformat(timespec="seconds"),
        "text": f"hsstar: {notification.run} {notification.event}: {notification.detail}",
    }


def _address(url: str | None, environ: Mapping[str, str]) -> str:
    if url is not None and (variable := _VARIABLE.fullmatch(url)):
        try:
            url = read_secret(environ, variable[1])
        except BadInputError as error:
            raise NotSentError(str(error)) from None
        if url is None:
            raise NotSentError(f"{variable[1]} is not set where the workers run")
    if url is None or not url.startswith(("http://", "https://")):
        raise NotSentError("the address of the webhook is no URL that begins with http:// or https://")
    return url
