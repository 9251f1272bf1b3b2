"""The embedded broker: answers, keeps messages, starts again."""

import contextlib
import signal
from queue import Empty

import kombu
import psutil
import pytest

from hsstar.local import processes
from tests.local.conftest import Place


def test_messages_outlive_a_killed_broker(place: Place) -> None:
    broker = place.broker()
    assert not broker.is_ready()
    broker.start()
    assert broker.is_ready()
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue:
        queue.put({"job": 1})
    identity = broker.identity()
    assert identity is not None
    processes.send(identity, signal.SIGKILL)
    processes.wait_for_end([identity], 5.0)
    assert not broker.is_running()
    broker.start()
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue:
        message = queue.get(timeout=5)
        assert message.payload == {"job": 1}
        message.ack()
    assert broker.stop()
    assert not broker.is_running()
    assert not broker.socket.exists()
    broker.start()
    with (
        kombu.Connection(broker.url) as connection,
        connection.SimpleQueue("jobs") as queue,
        pytest.raises(Empty),
    ):
        queue.get(timeout=1)


def test_a_lost_pid_file_does_not_lead_to_two_brokers_on_one_log(place: Place) -> None:
    broker = place.broker()
    broker.start()
    first = broker.identity()
    assert first is not None
    broker.pid_file.unlink()
    broker.start()
    assert not processes.alive(first)
    assert broker.is_ready()


def test_the_broker_is_for_us_alone_with_a_password_that_no_command_line_shows(place: Place) -> None:
    broker = place.broker()
    broker.start()
    assert broker.socket.stat().st_mode & 0o777 == 0o700
    assert broker.socket.stat().st_uid == broker.account.user_id != 0
    assert broker.socket_directory.stat().st_mode & 0o777 == 0o700
    password = broker.password
    assert len(password) == 48
    assert broker.configuration.stat().st_mode & 0o777 == 0o600
    assert broker.configuration.stat().st_uid == broker.account.user_id
    identity = broker.identity()
    assert identity is not None
    assert password not in " ".join(psutil.Process(identity.pid).cmdline())
    assert password not in broker.status().shown_url
    assert broker.status().shown_url.startswith("redis+socket://:***@/")
    without = broker.url.replace(f":{password}@", "")
    with kombu.Connection(without) as connection, pytest.raises(Exception, match="Authentication required"):
        connection.SimpleQueue("jobs")
    assert broker.stop()
    broker.start()
    assert broker.password == password


def test_the_servers_listen_on_no_port_run_as_no_root_and_know_no_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSSTAR_OPENAI_API_KEY", "s3cret")
    for server in (place.broker(), place.postgres()):
        server.start()
        identity = server.identity()
        assert identity is not None
        process = psutil.Process(identity.pid)
        assert "s3cret" not in process.environ().values()
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has done what it was started for
                assert member.uids().real != 0
                connections = member.net_connections(kind="inet")
                assert [each for each in connections if each.status == psutil.CONN_LISTEN] == []
        assert server.data.stat().st_mode & 0o777 == 0o700
