"""How a broker is reached, what is set of Celery, and when a worker says that it has lost its broker."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BadInputError, BrokerError
from hsstar.domain.lifecycle import JobKind
from hsstar.workers.app import make_app
from hsstar.workers.broker_watch import BrokerWatch
from hsstar.workers.messages import TASK, send_wake_up
from tests.brokers.servers import PASSWORD, free_port

HERE = Path(__file__)
TABLES = json.loads(HERE.with_name("addresses.json").read_text().replace("FILE", str(HERE)))


@pytest.mark.parametrize("expected", TABLES["legal"], ids=lambda expected: expected["url"].partition("?")[0])
def test_an_address_is_checked_by_tls_unless_it_says_otherwise(expected: dict[str, Any]) -> None:
    address = BrokerAddress.parse(expected["url"])
    assert (address.url, address.options) == (expected["plain"], expected["options"])
    assert address.tls == expected["tls"]  # cert_reqs: 0 is none, 2 is required
    assert ":p@" not in address.shown + repr(address)


def test_the_authority_of_the_settings_counts_unless_the_url_names_another(tmp_path: Path) -> None:
    other = tmp_path / "ca.pem"
    other.touch()
    redis = BrokerAddress.parse("rediss://h/0", HERE).tls or {}
    amqp = BrokerAddress.parse(f"amqps://h//?ssl_ca_certs={other}", HERE).tls or {}
    assert (redis["ssl_ca_certs"], amqp["ca_certs"]) == (str(HERE), str(other))
    with pytest.raises(BadInputError, match="not amqp://"):
        BrokerAddress.parse("amqp://h//", HERE)


@pytest.mark.parametrize(("url", "told"), TABLES["refused"])
def test_tls_settings_that_cannot_be_are_refused(url: str, told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        BrokerAddress.parse(url)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_named_without_its_password(scheme: str) -> None:
    port = free_port()
    address = BrokerAddress.parse(f"{scheme}://me:{PASSWORD}@127.0.0.1:{port}//")
    with pytest.raises(BrokerError, match=rf"127.0.0.1:{port}.* does not let us in: .*[Rr]efused") as away:
        address.check()
    assert PASSWORD not in str(away.value)


def test_a_worker_acknowledges_early_and_tries_for_ever() -> None:
    """Leases recover lost work, so no broker may deliver a message twice or end a worker."""
    app = make_app("test", "rediss://h/0", HERE)
    assert {key: app.conf[key] for key in TABLES["celery"]} == TABLES["celery"]
    assert make_app("test", "redis://h/0").conf.broker_use_ssl is None


def test_a_message_is_a_job_id_in_json_and_nothing_else() -> None:
    app = make_app("test", "memory://")
    with app.connection_for_read() as connection, connection.SimpleQueue("hsstar-test.verify") as queue:
        queue.clear()
        send_wake_up(app, 7, JobKind.VERIFY)
        message = queue.get(timeout=60)
        message.ack()
    assert (message.content_type, message.headers["task"]) == ("application/json", TASK)
    assert message.payload[:2] == [[7], {}]


@pytest.mark.parametrize(
    ("scheme", "start"), [("redis", b"*"), ("amqp", b"A"), ("rediss", b"\x16"), ("amqps", b"\x16")]
)
def test_the_check_speaks_the_protocol_of_the_scheme(scheme: str, start: bytes) -> None:
    """TLS begins with the byte 22."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        address = BrokerAddress.parse(f"{scheme}://127.0.0.1:{server.getsockname()[1]}//")
        checking = pool.submit(address.check)
        client, _ = server.accept()
        with client:
            assert client.recv(1) == start
        server.close()
        assert isinstance(checking.exception(), BrokerError)


class Watched:
    """A watch over a broker that is away, whose clock and notes a test has in its hands."""

    def __init__(self) -> None:
        self.now, self.notes = 100.0, list[str]()
        url = f"redis://me:{PASSWORD}@127.0.0.1:{free_port()}/0"
        self.shown = url.replace(PASSWORD, "***")
        app, address = make_app("test", url), BrokerAddress.parse(url)
        self.watch = BrokerWatch(app, address, self.notes.append, lambda: self.now)
        (self.step,) = app.steps["consumer"]  # Celery's own, which follows the connection

    def notes_after(self, seconds: float) -> list[str]:
        self.now += seconds
        self.watch.look()
        return self.notes


def test_a_long_loss_of_the_broker_is_noted_once_and_its_end_too() -> None:
    seen = Watched()
    assert seen.notes_after(4.0) == []
    (note,) = seen.notes_after(0.1)  # it has never had a connection
    assert note.startswith(f"the broker {seen.shown} does not let us in: ")
    assert note.endswith("; it is tried again, with pauses of up to 32 s")
    assert len(seen.notes_after(60.0)) == 1
    seen.watch.connected()
    assert seen.notes_after(1.0)[1:] == [f"the broker {seen.shown} answers again"]
    assert len(seen.notes_after(60.0)) == 2
    seen.watch.lost()
    assert len(seen.notes_after(4.0)) == 2
    seen.watch.connected()
    assert len(seen.notes_after(60.0)) == 2  # a short loss
    seen.watch.lost()
    assert len(seen.notes_after(4.1)) == 3


def test_celery_tells_the_watch_of_its_connection() -> None:
    seen = Watched()
    step = seen.step(None)
    step.start(None)
    assert seen.notes_after(60.0) == []
    step.stop(None)
    assert len(seen.notes_after(5.0)) == 1


def test_a_broker_that_answers_has_nothing_to_explain(embedded_broker: str) -> None:
    address, notes = BrokerAddress.parse(embedded_broker), list[str]()
    BrokerWatch(make_app("test", "memory://"), address, notes.append).explain()
    assert (notes, address.check()) == ([], f"redis answers at {address.shown}")
