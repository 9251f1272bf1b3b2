"""The embedded broker: answers, keeps messages, starts again."""

import signal
from queue import Empty

import kombu
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


def test_the_socket_is_for_us_alone(place: Place) -> None:
    broker = place.broker()
    broker.start()
    assert broker.socket.stat().st_mode & 0o777 == 0o700
    assert broker.socket.stat().st_uid == broker.account.user_id != 0
