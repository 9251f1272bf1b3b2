"""Actions of the pages: only with --actions, by a form of ours, once each, with a record of who asked."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from hsstar.commands.author import author
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.web.access import Door
from hsstar.web.app import make_app
from tests.store.conftest import MakeDatabase
from tests.store.factory import execute, select
from tests.web.rows import fill

ORIGIN = {"origin": "http://localhost"}


@pytest.fixture
def database(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """A database of its own for each test: actions change it."""
    with make_database(template) as database:
        with database.begin() as connection:
            fill(connection)
        yield database


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    """A client of pages that may act."""
    with acting(database) as client:
        yield client


def acting(database: Database, door: Door | None = None) -> TestClient:
    settings = Settings.from_environment({"HSSTAR_HOME": str(Path("unused"))})
    app = make_app(database.url, ["localhost"], door, acting=settings)
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


def form(page: str, action: str) -> dict[str, str]:
    """The fields of the form of a page that has this action."""
    for text in re.findall(r"<form class=\"act.*?</form>", page, re.DOTALL):
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
        if fields.get("action") == action:
            return fields
    raise AssertionError(f"the page has no form for {action}")


def log(database: Database) -> list[tuple[str, str, str | None, bool]]:
    with database.begin() as connection:
        rows = select(
            connection, "SELECT author, action, outcome, refused FROM action_log ORDER BY action_id"
        )
        return [tuple(row) for row in rows]


def held(database: Database, run: str) -> str | None:
    with database.begin() as connection:
        ((kind,),) = select(connection, "SELECT held FROM runs WHERE name = :run", run=run)
        return None if kind is None else str(kind)


def test_a_run_is_paused_and_resumed_with_a_row_for_each(client: TestClient, database: Database) -> None:
    answer = client.post("/actions", data=form(client.get("/runs/broken").text, "pause"), headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/broken")
    assert held(database, "broken") == "paused"
    page = client.get("/runs/broken").text
    assert f"paused by {author()}" in page
    assert client.post("/actions", data=form(page, "resume"), headers=ORIGIN).status_code == 303
    assert held(database, "broken") is None
    assert log(database) == [
        (author(), "pause", "0 jobs still run to their end", False),
        (author(), "resume", f"was held: paused by {author()}", False),
    ]


def test_a_second_click_does_nothing(client: TestClient, database: Database) -> None:
    fields = form(client.get("/runs/broken").text, "pause")
    answers = [client.post("/actions", data=fields, headers=ORIGIN) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len(log(database)) == 1


def test_failed_jobs_are_retried_or_given_up(client: TestClient, database: Database) -> None:
    page = client.get("/runs/broken").text
    assert client.post("/actions", data=form(page, "retry"), headers=ORIGIN).status_code == 303
    assert log(database)[-1][1:] == ("retry", "9 jobs are queued again", False)
    with database.begin() as connection:
        execute(connection, "UPDATE jobs SET state = 'failed', finished_at = now() WHERE state = 'queued'")
    page = client.get("/runs/broken").text
    assert client.post("/actions", data=form(page, "accept missing"), headers=ORIGIN).status_code == 303
    assert log(database)[-1][1:] == ("accept missing", "9 failed jobs are discarded", False)


def test_a_corrected_verdict_is_shown_with_its_author_and_reason(
    client: TestClient, database: Database
) -> None:
    with database.begin() as connection:
        ((problem,),) = select(connection, "SELECT min(problem_id) + 1 FROM round_problems")
    path = f"/samples/demo/0/{problem}/1"
    fields = form(client.get(path).text, "correct") | {"verdict": "correct", "why": "an <i>equal</i> form"}
    answer = client.post("/actions", data=fields, headers=ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = client.get(path).text
    assert "an &lt;i&gt;equal&lt;/i&gt; form" in page
    assert page.count("in force</td>") == 1  # the iteration is done: the earlier verdict stays
    assert "the earlier verdict stays in force" in (log(database)[0][2] or "")
    with database.begin() as connection:
        ((detail, named),) = select(
            connection, "SELECT detail, sample_id = (SELECT max(sample_id) FROM verdicts) FROM action_log"
        )
    assert (detail, named) == ("correct: an <i>equal</i> form", True)


def test_what_is_refused_is_recorded_too(client: TestClient, database: Database) -> None:
    fields = form(client.get("/runs/broken").text, "pause")
    client.post("/actions", data=fields, headers=ORIGIN)
    again = client.post("/actions", data=fields | {"key": str(uuid4())}, headers=ORIGIN)
    assert (again.status_code, "is held" in again.text or "paused" in again.text) == (409, True)
    assert log(database)[-1][3] is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "changes", "status"),
    [
        ({"origin": "http://evil.example"}, {}, 403),
        ({"origin": "null"}, {}, 403),
        ({}, {}, 403),
        (ORIGIN, {"token": "guessed"}, 403),
        (ORIGIN, {"token": ""}, 403),
        (ORIGIN, {"key": "none"}, 400),
        (ORIGIN, {"action": "delete"}, 400),
        (ORIGIN, {"run": "demmo"}, 409),
        (ORIGIN, {"run": "x" * 20_000}, 413),
    ],
)
def test_no_other_form_changes_anything(
    client: TestClient, database: Database, headers: dict[str, str], changes: dict[str, str], status: int
) -> None:
    fields = form(client.get("/runs/broken").text, "pause") | changes
    assert client.post("/actions", data=fields, headers=headers).status_code == status
    assert held(database, "broken") is None
    assert log(database) == []


def test_a_correction_needs_a_reason(client: TestClient, database: Database) -> None:
    with database.begin() as connection:
        ((problem,),) = select(connection, "SELECT min(problem_id) + 1 FROM round_problems")
    fields = form(client.get(f"/samples/demo/0/{problem}/1").text, "correct") | {"verdict": "correct"}
    assert client.post("/actions", data=fields | {"why": "  "}, headers=ORIGIN).status_code == 400
    assert log(database) == []


def test_without_actions_no_page_has_a_form_and_no_address_takes_one(database: Database) -> None:
    with TestClient(make_app(database.url), base_url="http://localhost") as client:
        assert 'method="post"' not in client.get("/runs/broken").text
        assert client.post("/actions", data={}, headers=ORIGIN).status_code == 404


def test_nothing_is_done_by_looking(client: TestClient, database: Database) -> None:
    fields = form(client.get("/runs/broken").text, "pause")
    assert client.get("/actions", params=fields).status_code == 405
    assert (held(database, "broken"), log(database)) == (None, [])


def test_behind_the_door_the_record_has_the_name_of_the_session(database: Database) -> None:
    links: list[str] = []
    door = Door(links.append)
    door.open()
    with acting(database, door) as client:
        refused = client.post("/actions", data={}, headers=ORIGIN)
        assert refused.status_code == 401
        fields = {"ticket": links[0].partition("ticket=")[2], "name": " Ann\n B. "}
        assert client.post("/enter", data=fields, headers=ORIGIN).status_code == 303
        client.post("/actions", data=form(client.get("/runs/broken").text, "pause"), headers=ORIGIN)
    assert log(database)[0][0] == "Ann B. by hsstar web"
