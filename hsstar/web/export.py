"""A run as a static site: the pages of the server, fetched in process, with links that lead to files."""

import hashlib
import html
import posixpath
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.applications import Starlette
from starlette.types import Message

from hsstar.domain.errors import BadInputError, ConflictError, DatabaseError
from hsstar.insights.runs import find_run
from hsstar.web.app import make_app
from hsstar.web.render import Exported

MEGABYTES = 100
"""Of pages with samples, unless the caller says otherwise."""
_POLICY = (
    "default-src 'self' file:; base-uri 'none'; connect-src 'none'; form-action 'none'; object-src 'none'"
)
_LINK = re.compile(r' (href|src)="(/[^"]*)"')  # text has no quotes: they are escaped
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What an export wrote: `left_out` problems and comparisons had no room."""

    pages: int
    size: int  # bytes of all files
    left_out: int


@dataclass(slots=True)
class _Site:
    """Pages as the server writes them, in files below a folder."""

    app: Starlette
    portal: BlockingPortal  # a thread with an event loop, also where the caller has one
    run: str
    folder: Path
    files: dict[str, str] = field(default_factory=dict)  # by the address of the page

    def fetch(self, address: str) -> str | None:
        """Write a page to its file; return its text, or None if the server has no such page."""
        status, body = self.portal.call(_ask, self.app, address)
        if status >= 500:
            raise DatabaseError(f"{address} cannot be exported ({_told(body)}); nothing is written")
        if status != 200:
            return None
        name = self._name(address)
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        self.files[address] = name
        return body.decode()

    def links(self, text: str) -> Iterator[str]:
        """Yield the addresses of this site that a page leads to."""
        own = f"/runs/{quote(self.run)}"
        for _, link in _LINK.findall(text):
            address = _address(link)
            path = urlsplit(address).path
            if path == own or path.startswith((f"{own}/", "/samples/", "/texts")):
                yield address

    def drop(self, addresses: list[str]) -> None:
        """Remove pages."""
        for address in addresses:
            (self.folder / self.files.pop(address)).unlink()

    def link_files(self) -> None:
        """Let the links of every page lead to files; those to pages that are not here are no links."""
        for name in self.files.values():
            file = self.folder / name
            text = file.read_text(encoding="utf-8")
            file.write_text(_LINK.sub(self._linker(name), text), encoding="utf-8")

    def _linker(self, name: str) -> Callable[[re.Match[str]], str]:
        base = posixpath.dirname(name) or "."

        def link(match: re.Match[str]) -> str:
            attribute, given = match.groups()
            address, _, fragment = html.unescape(given).partition("#")
            path = urlsplit(address).path
            target = path[1:] if path.startswith("/static/") else self.files.get(address)
            if target is None:
                return ""
            relative = quote(posixpath.relpath(target, base))
            return f' {attribute}="{relative}{"#" if fragment else ""}{html.escape(fragment)}"'

        return link

    def _name(self, address: str) -> str:
        """Return the file of an address: `index.html`, `problems/17.html`, `problems/level-boundary.html`."""
        parts = urlsplit(address)
        places = [
            _safe(unquote(place)) for place in parts.path.removeprefix(f"/runs/{quote(self.run)}").split("/")
        ]
        query = "-".join(_safe(f"{name}-{value}") for name, value in parse_qsl(parts.query))
        name = "/".join(place for place in (*places, query) if place)[:_LONGEST_NAME] or "index"
        if f"{name}.html" in self.files.values():
            name = f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        return f"{name}.html"


def export_site(
    url: str, run: str, target: Path, megabytes: int = MEGABYTES, tell: Callable[[int], None] | None = None
) -> SiteReport:
    """Write the pages of a run into a folder, which appears when it is whole.

    Pages with samples come problem by problem, in the order of the table, up to so many `megabytes`; links to
    the others are left out. `tell` is given the number of pages after each.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: the folder holds something.
        BadInputError: the folder cannot be written.
        DatabaseError: the database went away.
    """
    target = target.expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{target} exists and is not an empty folder; give another one")
    app = make_app(url, exported=Exported(run, datetime.now(UTC), _POLICY))
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        find_run(app.state.database, run)
        with start_blocking_portal() as portal:
            site = _Site(app, portal, run, aside)
            left_out = _collect(site, megabytes * 1_000_000, tell or (lambda pages: None))
        site.link_files()
        with resources.as_file(resources.files("hsstar.web") / "static") as static:
            shutil.copytree(static, aside / "static")
        size = sum(file.stat().st_size for file in aside.rglob("*") if file.is_file())
        aside.rename(target)  # this replaces an empty folder
    except OSError as error:
        raise BadInputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for part in (app.state.database, app.state.queries, app.state.verifiers):
            part.close()
    return SiteReport(len(site.files), size, left_out)


def _collect(site: _Site, room: int, tell: Callable[[int], None]) -> int:
    """Fetch the pages of a run, then those with samples while there is room; return how many had none."""
    seen, units = set[str](), dict[str, None]()
    waiting = deque([f"/runs/{quote(site.run)}"])
    while waiting:
        address = waiting.popleft()
        if address in seen:
            continue
        seen.add(address)
        if (text := site.fetch(address)) is None:
            continue
        tell(len(site.files))
        for link in site.links(text):
            if _is_unit(link):
                units.setdefault(link)
            elif not _is_detail(link):
                waiting.append(link)
    for number, unit in enumerate(units):
        fetched = _collect_unit(site, unit)
        size = sum((site.folder / site.files[address]).stat().st_size for address in fetched)
        if size > room:
            site.drop(fetched)
            return len(units) - number
        room -= size
        tell(len(site.files))
    return 0


def _collect_unit(site: _Site, unit: str) -> list[str]:
    """Fetch a page with samples, and those of its samples and pairs; return the addresses of the new ones."""
    fetched, waiting = [], [unit]
    while waiting:
        address = waiting.pop()
        if address in site.files or (text := site.fetch(address)) is None:
            continue
        fetched.append(address)
        waiting += [link for link in site.links(text) if _is_detail(link)]
    return fetched


def _is_detail(address: str) -> bool:
    """Tell whether a page belongs to the samples of a problem."""
    return address.startswith(("/samples/", "/texts"))


def _is_unit(address: str) -> bool:
    """Tell whether a page shows the samples of one problem."""
    return re.fullmatch(r"/runs/[^/]+/(problems|compare)/\d+", urlsplit(address).path) is not None


def _address(link: str) -> str:
    return html.unescape(link).partition("#")[0]


def _safe(text: str) -> str:
    """Return a text as a part of a file's name that is the same on every system."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(".-")


def _told(body: bytes) -> str:
    paragraphs = re.findall(r"<p>(.*?)</p>", body.decode(errors="replace"))
    return html.unescape(paragraphs[0]) if paragraphs else "the page failed"


async def _ask(app: Starlette, address: str) -> tuple[int, bytes]:
    """Return status and body of a page."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"localhost")], "client": None, "server": ("localhost", 80), "state": {},
    }  # fmt: skip
    status, body = 500, b""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    await app(scope, receive, send)
    return status, body
