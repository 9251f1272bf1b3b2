"""Who may see the pages: names, links, cookies, headers; and the server as a process."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import psutil
import pytest
from starlette.testclient import TestClient

from hsstar.store.database import Database
from hsstar.web.access import COOKIE, Door
from hsstar.web.app import make_app

ORIGIN = {"origin": "http://localhost"}


@pytest.fixture
def links() -> list[str]:
    return []


@pytest.fixture
def guarded(database: Database, links: list[str]) -> Iterator[TestClient]:
    """A client of pages behind a door, and the links that it announces."""
    door = Door(links.append)
    door.open()
    app = make_app(database.url, ["localhost"], door)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client
    app.state.database.close()


def ticket(link: str) -> str:
    return link.partition("ticket=")[2]


def test_pages_are_for_those_who_call_them_by_their_name(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "127.0.0.1:8018"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/sql.csv?q=select+1", "/nowhere", "/static/style.css"])
def test_every_answer_keeps_foreign_code_out(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers


def test_static_files_are_kept_by_their_content(client: TestClient) -> None:
    (style,) = re.findall(r'href="(/static/style.css\?\w+)"', client.get("/").text)
    assert "immutable" in client.get(style).headers["cache-control"]


@pytest.mark.parametrize("path", ["/", "/runs/demo", "/events", "/sql.csv?q=select+1", "/nowhere"])
def test_behind_the_door_nothing_is_seen_without_the_session(guarded: TestClient, path: str) -> None:
    answer = guarded.get(path)
    assert answer.status_code == 401
    assert "These pages need the link" in answer.text
    assert guarded.get(path, headers={"cookie": f"{COOKIE}=guessed"}).status_code == 401


def test_a_link_lets_one_browser_in_and_the_next_one_is_announced(
    guarded: TestClient, links: list[str]
) -> None:
    shown = guarded.get(links[0])
    assert shown.status_code == 200  # a program that looks at the link has not used it
    assert len(links) == 1
    entered = guarded.post("/enter", data={"ticket": ticket(links[0])}, headers=ORIGIN)
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 303
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert guarded.get("/runs/demo").status_code == 200
    assert len(links) == 2
    again = guarded.post("/enter", data={"ticket": ticket(links[0])}, headers=ORIGIN)
    assert (again.status_code, "set-cookie" in again.headers) == (403, False)


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"}])
def test_a_form_of_another_site_is_refused(
    guarded: TestClient, links: list[str], headers: dict[str, str]
) -> None:
    answer = guarded.post("/enter", data={"ticket": ticket(links[0])}, headers=headers)
    assert (answer.status_code, len(links)) == (403, 1)


@pytest.mark.parametrize("body", [b"", b"ticket=", b"ticket=%FF", b"ticket=" + b"x" * 10_000])
def test_no_other_ticket_opens_the_door(guarded: TestClient, body: bytes) -> None:
    assert guarded.post("/enter", content=body, headers=ORIGIN).status_code in (403, 413)


@pytest.mark.slow
def test_the_server_tells_its_address_sends_what_changes_and_ends_at_once(database: Database) -> None:
    command = [sys.executable, "-m", "hsstar.cli", "web", "--port", "0"]
    environment = {"HSSTAR_DATABASE_URL": database.url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            with httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as browser:
                assert "demo" in browser.get("/").text
                with browser.stream("GET", "/events?run=resting") as stream:
                    events = (line for line in stream.iter_lines() if line.startswith("data: "))
                    first = next(events)
                    with database.begin() as connection:
                        change = "UPDATE runs SET held = 'cancelled' WHERE name = 'resting'"
                        connection.exec_driver_sql(change)
                    assert next(events) != first
                    memory = psutil.Process(process.pid).memory_info().rss
                    asked = time.monotonic()
                    process.send_signal(signal.SIGTERM)
                    assert list(events) == []
                assert process.wait(60) == 0
        finally:
            process.kill()
    assert time.monotonic() - asked < 30
    assert memory < 120 << 20
