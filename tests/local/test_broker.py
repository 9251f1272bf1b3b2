"""The embedded broker: answers, keeps messages, starts again; and who can reach the embedded servers."""

import contextlib
from queue import Empty

import kombu
import psutil
import pytest

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError
from hsstar.local import processes
from tests.local.conftest import Place, identity_of, kill


def test_messages_outlive_a_killed_broker(place: Place) -> None:
    broker = place.broker()
    assert not broker.is_ready()
    broker.start()
    assert broker.is_ready()
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue:
        queue.put({"job": 1})
    kill(broker)
    broker.start()
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue:
        message = queue.get(timeout=5)
        assert message.payload == {"job": 1}
        message.ack()
    assert broker.stop()
    assert not broker.is_running()
    assert not broker.socket.exists()
    broker.start()
    empty = pytest.raises(Empty)
    with kombu.Connection(broker.url) as connection, connection.SimpleQueue("jobs") as queue, empty:
        queue.get_nowait()


def test_a_lost_pid_file_does_not_lead_to_two_brokers_on_one_log(place: Place) -> None:
    broker = place.broker()
    broker.start()
    first = identity_of(broker)
    broker.pid_file.unlink()
    broker.start()
    assert not processes.alive(first)
    assert broker.is_ready()


def test_the_broker_is_for_us_alone_with_a_password_that_no_command_line_shows(place: Place) -> None:
    broker = place.broker()
    broker.start()
    password, account = broker.password, broker.account.user_id
    assert len(password) == 48
    for file, mode in (
        (broker.socket, 0o700),
        (broker.socket_directory, 0o700),
        (broker.configuration, 0o600),
    ):
        assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (mode, account)
    assert account != 0
    assert password not in " ".join(psutil.Process(identity_of(broker).pid).cmdline())
    assert password not in broker.status().shown_url
    assert broker.status().shown_url.startswith("redis+socket://:***@/")
    with pytest.raises(BrokerError, match="Authentication required"):
        BrokerAddress.parse(broker.url.replace(f":{password}@", "")).check()
    assert broker.stop()
    broker.start()
    assert broker.password == password


def test_the_servers_listen_on_no_port_run_as_no_root_and_know_no_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSSTAR_OPENAI_API_KEY", "s3cret")
    for server in (place.broker(), place.postgres()):
        server.start()
        process = psutil.Process(identity_of(server).pid)
        assert "s3cret" not in process.environ().values()
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that has done what it was started for
                assert member.uids().real != 0
                connections = member.net_connections(kind="inet")
                assert [each for each in connections if each.status == psutil.CONN_LISTEN] == []
        assert server.data.stat().st_mode & 0o777 == 0o700
