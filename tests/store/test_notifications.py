"""Webhooks hear of each event once, whatever dies or is down, and the run never waits for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Connection

from hsstar.domain.errors import RecipeError
from hsstar.domain.lifecycle import JobState
from hsstar.monitoring import webhook
from hsstar.store import notifications, rounds, runs
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from tests.store.drawing import execute, make_worker, scalars
from tests.store.driver import Begin
from tests.store.factory import add_iteration, add_job, add_problems, add_run, claim, make_recipe
from tests.waiting import wait_for

EVENTS = ["failed", "stopped", "done"]


@dataclass
class Hook:
    """A webhook that answers with the next of `answers`, then with 200; what it was told."""

    url: str
    answers: list[int] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(message["event"], message["detail"]) for message in self.told]


@contextmanager
def listening() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            target.told.append(json.loads(body))
            status = target.answers.pop(0) if target.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{target.url}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        target = Hook(f"http://127.0.0.1:{server.server_port}/hook")
        Thread(target=server.serve_forever, daemon=True).start()
        yield target
        server.shutdown()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as hook:
        yield hook


def notifying(url: str, *events: str) -> dict[str, Any]:
    return {"on": list(events or EVENTS), "url": url}


def make_due(database: Database) -> None:
    execute(database, "UPDATE notifications SET due_at = now()")


def add_failing(connection: Connection, run: runs.Run, count: int) -> list[int]:
    """Jobs of a run that have failed by their last attempt."""
    iteration = add_iteration(connection, run, add_problems(connection, count))
    added = [add_job(connection, iteration.id) for _ in range(count)]
    for job_id in added:
        fail(connection, job_id)
    return added


def fail(connection: Connection, job_id: int) -> None:
    job = claim(connection, job_id)
    assert jobs.record_failure(connection, job, "it broke", "", 1, divisible=False) is JobState.FAILED


def test_a_run_that_ends_tells_its_webhook_once(begin: Begin, database: Database, hook: Hook) -> None:
    driver = begin(make_recipe(notify=notifying(hook.url)))
    driver.work()
    assert driver.states() == ["done"]
    assert hook.told == []  # decided with the event, and sent by nothing that advances a run
    for _ in range(2):  # also after a restart: the rows say what is sent
        webhook.send_due(database)
    (message,) = hook.told
    assert datetime.fromisoformat(message.pop("at")).tzinfo is not None
    name = driver.run.name
    detail = "iteration 0 is done, and no other is asked for"
    assert message == {
        "id": message["id"], "event": "done", "run": name, "detail": detail,
        "text": f"hsstar: {name} done: {detail}",
    }  # fmt: skip


def test_a_burst_of_failures_is_one_event_and_the_next_one_comes_after_it_is_dealt_with(
    database: Database, hook: Hook
) -> None:
    with database.begin() as connection:
        run = add_run(connection, make_recipe(notify=notifying(hook.url, "failed")), "r")
        failed = add_failing(connection, run, 3)
    webhook.send_due(database)
    assert hook.events == [("failed", f"sample job {failed[0]}: it broke")]
    with database.begin() as connection:
        jobs.retry(connection, run.id, failed[1:])
        fail(connection, failed[1])  # the first is failed still
    webhook.send_due(database)
    assert len(hook.told) == 1
    with database.begin() as connection:
        jobs.retry(connection, run.id, [])
        fail(connection, failed[2])
    webhook.send_due(database)
    assert hook.events[1:] == [("failed", f"sample job {failed[2]}: it broke")]


def test_a_hold_is_told_each_time_and_what_nobody_asked_for_never(database: Database, hook: Hook) -> None:
    with database.begin() as connection:
        run = add_run(connection, make_recipe(notify=notifying(hook.url, "stopped")), "r")
        silent = add_run(connection, name="silent")
        add_failing(connection, run, 1)
        add_failing(connection, silent, 1)
        for held in (run, silent):
            for kind in ("gate", "paused", "archived"):
                runs.hold(connection, held.id, kind, "a reason")
                runs.release_hold(connection, held.id)
    webhook.send_due(database)
    assert hook.events == [("stopped", "gate: a reason"), ("stopped", "paused: a reason")]


def test_what_is_rolled_back_is_never_told(database: Database, hook: Hook) -> None:
    with database.begin() as connection:
        run = add_run(connection, make_recipe(notify=notifying(hook.url)), "r")
    with pytest.raises(ZeroDivisionError), database.begin() as connection:
        runs.hold(connection, run.id, "gate", "a reason")
        raise ZeroDivisionError
    webhook.send_due(database)
    assert hook.told == []


def held_once(database: Database, url: str) -> runs.Run:
    with database.begin() as connection:
        run = add_run(connection, make_recipe(notify=notifying(url)), "r")
        runs.hold(connection, run.id, "gate", "a reason")
    return run


def unsent(database: Database) -> list[notifications.UnsentCount]:
    with database.begin() as connection:
        return notifications.count_unsent(connection)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "error"), [(500, "the webhook answers 500"), (302, "the webhook answers 302")]
)
def test_a_webhook_that_refuses_is_called_again_later(
    database: Database, hook: Hook, status: int, error: str
) -> None:
    hook.answers = [status]
    held_once(database, hook.url)
    for _ in range(2):
        webhook.send_due(database)
    assert len(hook.told) == 1  # the next attempt is not due
    assert unsent(database) == [notifications.UnsentCount("r", 1, 0, error)]
    assert 25 < scalars(database, "SELECT extract(epoch FROM due_at - now()) FROM notifications")[0] <= 30
    make_due(database)
    webhook.send_due(database)
    assert hook.told[0] == hook.told[1]
    make_due(database)
    webhook.send_due(database)
    assert len(hook.told) == 2
    assert unsent(database) == []


def test_a_sender_that_dies_before_it_records_sends_the_same_id_again(
    database: Database, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_once(database, hook.url)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(notifications, "record_sent", die)
        webhook.send_due(database)
    make_due(database)
    webhook.send_due(database)
    assert [message["id"] for message in hook.told] == [hook.told[0]["id"]] * 2


def test_a_webhook_that_is_away_is_given_up_after_a_day(database: Database) -> None:
    with listening() as gone:
        pass
    held_once(database, gone.url)
    webhook.send_due(database)
    (row,) = unsent(database)
    assert row.error is not None
    assert row.error.startswith("the webhook cannot be reached: ")
    execute(database, "UPDATE notifications SET attempts = 29, due_at = now()")
    webhook.send_due(database)
    assert [(row.waiting, row.given_up) for row in unsent(database)] == [(0, 1)]
    assert scalars(database, "SELECT extract(epoch FROM due_at - now()) FROM notifications")[0] <= 3600
    make_due(database)
    webhook.send_due(database)
    assert scalars(database, "SELECT attempts FROM notifications") == [30]


def test_a_secret_address_stands_in_no_row(database: Database, hook: Hook) -> None:
    run = held_once(database, "${HSSTAR_NOTIFY_URL}")
    webhook.send_due(database, {})
    (row,) = unsent(database)
    assert row.error == "HSSTAR_NOTIFY_URL is not set where the workers run"
    make_due(database)
    webhook.send_due(database, {"HSSTAR_NOTIFY_URL": hook.url})
    assert len(hook.told) == 1
    assert run.recipe.document()["notify"]["url"] == "${HSSTAR_NOTIFY_URL}"
    assert hook.url not in str(scalars(database, "SELECT recipe FROM runs"))


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "file:///etc/passwd", "http://user:pass@host/x", "${HSSTAR_DATABASE_URL}", "${HOME}",
     "http://host/${HSSTAR_NOTIFY_URL} x"],
)  # fmt: skip
def test_other_addresses_and_other_variables_are_refused(url: str) -> None:
    with pytest.raises(RecipeError, match=r"notify\.url"):
        make_recipe(notify=notifying(url))


@pytest.mark.slow
def test_a_worker_at_work_sends_what_is_due(database: Database, hook: Hook) -> None:
    worker = make_worker(database)
    worker.start()
    try:
        run = held_once(database, hook.url)
        wait_for(lambda: hook.told, what="the webhook is told")
        with database.begin() as connection:
            runs.release_hold(connection, run.id)
            rounds.add_iterations(connection, run, [0])
            runs.hold(connection, run.id, "paused", "again")
        wait_for(lambda: len(hook.told) > 1, what="the webhook is told again")
    finally:
        worker.stop()
    assert hook.events == [("stopped", "gate: a reason"), ("stopped", "paused: again")]
