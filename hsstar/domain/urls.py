"""URLs of servers, for people to read."""

import re

_SECRET_NAMES = re.compile("pass(?!file)|secret|token", re.IGNORECASE)


def without_secrets(url: str) -> str:
    """Return a URL, or several separated by `;`, for people: passwords become `***`, in its query too."""
    return ";".join(map(_without_secrets, url.split(";")))


def _without_secrets(url: str) -> str:
    head, mark, query = url.partition("?")
    head = re.sub(r"(://[^:@/]*):.*@", r"\1:***@", head)
    shown = [
        f"{name}=***" if _SECRET_NAMES.search(name) else f"{name}{equals}{value}"
        for name, equals, value in (part.partition("=") for part in query.split("&"))
    ]
    return head + mark + "&".join(shown)
