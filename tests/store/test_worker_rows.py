"""The rows of workers: whose name is free, who is asked to stop, what a new start leaves of the old row."""

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.store.database import SCHEMA_REVISION
from hsstar.store.queue import workers
from hsstar.store.queue.workers import Control, read_control, request_stop
from tests.store.factory import select


def register(connection: Connection, name: str, role: str = "sample", silent_for: int = 0) -> None:
    workers.register(connection, name, "host", 7, role)
    hear_nothing(connection, name, silent_for)


def hear_nothing(connection: Connection, name: str, seconds: int) -> None:
    statement = "UPDATE workers SET last_heartbeat = now() - make_interval(secs => :s) WHERE name = :name"
    connection.execute(text(statement), {"s": seconds, "name": name})


@pytest.mark.parametrize(
    ("host", "lives", "silent_for", "stopped", "free"),
    [
        ("elsewhere", False, 29, False, False),  # its process cannot be seen from here
        ("host", True, 29, False, False),
        ("host", False, 29, False, True),
        ("elsewhere", False, 30, False, True),
        ("elsewhere", True, 0, True, True),
    ],
)
def test_a_name_is_free_unless_its_worker_may_live(
    connection: Connection, host: str, lives: bool, silent_for: int, stopped: bool, free: bool
) -> None:
    register(connection, "other")
    register(connection, "mine")
    if stopped:
        workers.deregister(connection, "mine")
    hear_nothing(connection, "mine", silent_for)
    asked = []

    def living(process: int) -> bool:
        asked.append(process)
        return lives

    if free:
        workers.check_name_is_free(connection, "mine", host, living)
    else:
        with pytest.raises(ConflictError, match=r"'mine' is at work on host \(process 7\); .* --name"):
            workers.check_name_is_free(connection, "mine", host, living)
    assert asked == ([7] if host == "host" else [])
    workers.check_name_is_free(connection, "new", host, living)


def test_a_new_start_leaves_nothing_of_the_old_row(connection: Connection) -> None:
    workers.register(connection, "mine", "old host", 6, "score", "old gpu", "0.9")
    workers.set_note(connection, "mine", "x" * 2_000)
    assert select(connection, "SELECT length(note), noted_at = now() FROM workers") == [(1_000, True)]
    assert request_stop(connection, ["mine"], [], everyone=False) == ["mine"]
    workers.deregister(connection, "mine")
    earlier = "now() - interval '1 hour'"
    times = f"started_at = {earlier}, last_heartbeat = {earlier}"
    connection.execute(text(f"UPDATE workers SET jobs_done = 5, tokens_done = 6, {times}"))
    workers.register(connection, "mine", "new host", 7, "sample", "new gpu", "1.0")
    query = """
        SELECT name, host, process, role, state, gpu, version, jobs_done, tokens_done, started_at = now(),
            last_heartbeat = now(), note, noted_at, stop_requested_at FROM workers
    """
    words = ("mine", "new host", 7, "sample", "idle", "new gpu", "1.0")
    assert select(connection, query) == [(*words, 0, 0, True, True, None, None, None)]


def test_live_workers_are_asked_to_stop_by_name_and_by_all_their_roles(connection: Connection) -> None:
    register(connection, "a@one", silent_for=59)
    register(connection, "a@two", "score")
    register(connection, "b", "sample,score")
    register(connection, "gone", silent_for=60)
    register(connection, "stopped")
    workers.deregister(connection, "stopped")
    for names, roles, asked in (
        (["a"], [], ["a@one", "a@two"]),
        (["b", "a@two"], [], ["a@two", "b"]),
        ([], ["sample,score"], ["b"]),
        ([], ["sample"], ["a@one"]),
    ):
        assert request_stop(connection, names, roles, everyone=False) == asked
    assert request_stop(connection, [], [], everyone=True) == ["a@one", "a@two", "b"]
    query = "SELECT name FROM workers WHERE stop_requested_at IS NOT NULL ORDER BY name"
    assert select(connection, query) == [("a@one",), ("a@two",), ("b",)]
    with pytest.raises(NotFoundError, match="no live worker is named c, gone; see: hsstar workers"):
        request_stop(connection, ["c", "b", "gone"], [], everyone=False)
    with pytest.raises(NotFoundError, match="no live worker has that role"):
        request_stop(connection, [], ["sample", "train"], everyone=False)


def test_a_worker_that_died_after_it_was_asked_to_stop_is_still_to_stop(connection: Connection) -> None:
    register(connection, "mine")
    assert read_control(connection, "mine") == Control(SCHEMA_REVISION, stop=False)
    assert not workers.is_draining(connection, "mine")
    request_stop(connection, ["mine"], [], everyone=False)
    assert read_control(connection, "mine") == Control(SCHEMA_REVISION, stop=True)
    for silent_for, draining in ((0, True), (59, True), (60, False)):
        hear_nothing(connection, "mine", silent_for)
        assert workers.is_draining(connection, "mine") == draining
    assert not workers.is_draining(connection, "unknown")
    assert read_control(connection, "unknown") == Control(SCHEMA_REVISION, stop=False)
    connection.execute(text("UPDATE alembic_version SET version_num = '9999_newer'"))
    assert read_control(connection, "mine") == Control("9999_newer", stop=True)
    hear_nothing(connection, "mine", 0)
    workers.deregister(connection, "mine")
    assert not workers.is_draining(connection, "mine")
