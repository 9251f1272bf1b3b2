"""Who may see the pages, and what a browser may do with them."""

import hmac
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hsstar.web.render import page

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
"""The names by which browsers of this machine call it."""
COOKIE = "hsstar_session"
_FORM_BYTES = 4096
_NAME_CHARACTERS = 60
_OPEN_PATHS = ("/static/", "/enter")  # seen without a session: they show no row of the database

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SecureHeaders:
    """Adds to every response what keeps foreign code and foreign pages out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                fixed = scope["path"].startswith("/static/") and scope["query_string"]
                headers["cache-control"] = "max-age=31536000, immutable" if fixed else "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Door:
    """One-time links, each of which gives one browser a session."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce = announce  # is given the path of each new link
        self._sessions: dict[str, str] = {}  # names by their secrets
        self._ticket = ""

    def open(self) -> None:
        """Make the next link and announce it; the one before is void."""
        self._ticket = secrets.token_urlsafe(24)
        self._announce(f"/enter?ticket={self._ticket}")

    def admits(self, cookie: str | None) -> bool:
        """Tell whether a browser has a session."""
        return self.name_of(cookie) is not None

    def name_of(self, cookie: str | None) -> str | None:
        """Return the name of the session of a cookie; None without one."""
        for secret, name in self._sessions.items():
            if cookie is not None and hmac.compare_digest(cookie.encode(), secret.encode()):
                return name
        return None

    def show(self, request: Request) -> Response:
        """Ask before the ticket is used: programs that look at links in messages do not press a button."""
        return page(request, "enter.html", ticket=request.query_params.get("ticket", ""))

    async def enter(self, request: Request) -> Response:
        """Take the ticket and set the cookie."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _FORM_BYTES:
                return page(request, "refused.html", 413, reason="The form is too large.")
        given = parse_qs(body.decode(errors="replace"))
        ticket = given.get("ticket", [""])[0]
        if not self._ticket or not hmac.compare_digest(ticket.encode(), self._ticket.encode()):
            reason = "This link was used already. hsstar web prints a new one after each use."
            return page(request, "refused.html", 403, reason=reason)
        self.open()
        session = secrets.token_urlsafe(32)
        name = " ".join(given.get("name", [""])[0].split())[:_NAME_CHARACTERS]
        self._sessions[session] = name or f"browser {len(self._sessions) + 1}"
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=secure, path="/")
        return response


class Guard:
    """Lets in those who have a session (without a door: everyone), and no form of another site."""

    def __init__(self, app: ASGIApp, door: Door | None) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, or refuse."""
        if scope["type"] == "http" and (refusal := self._refuse(Request(scope, receive))) is not None:
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        if request.method not in ("GET", "HEAD") and not _of_this_site(request.headers):
            return page(request, "refused.html", 403, reason="This form came from another site.")
        if self._door is None or request.url.path.startswith(_OPEN_PATHS):
            return None
        if self._door.admits(request.cookies.get(COOKIE)):
            return None
        return page(request, "refused.html", 401, reason="These pages need the link that hsstar web printed.")


def _of_this_site(headers: Headers) -> bool:
    return urlsplit(headers.get("origin", "")).netloc == headers.get("host")
