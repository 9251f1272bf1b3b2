"""Workers over Redis and RabbitMQ, with passwords and TLS; brokers that are away; forged messages."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import kombu
import psutil
import pytest
from sqlalchemy import text

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError
from hsstar.store import models
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from tests.brokers.conftest import StartWorker, add_verification
from tests.brokers.servers import PASSWORD, Server, black_hole
from tests.store.factory import select
from tests.waiting import wait_for

UNACKED = ("unacked", "unacked_index")


@pytest.fixture
def urls(redis: Server, rabbitmq: Server) -> dict[str, str]:
    """By scheme."""
    return redis.urls | rabbitmq.urls


def lines_of(name: str) -> list[Any]:
    return [json.loads(line) for line in Path(__file__).with_name(f"{name}.jsonl").read_text().splitlines()]


def foreign_messages() -> Iterator[tuple[str | bytes, dict[str, Any]]]:
    """Bodies and properties that no hsstar ever sends."""
    for properties in lines_of("foreign_messages"):
        body = properties.pop("body") * properties.pop("times", 1)
        binary = properties["content_encoding"] == "binary"
        yield (body.encode("latin-1") if binary else body), properties


def jam(connection: kombu.Connection, queue: str) -> None:
    """Puts everything into a queue that is no message of ours, and other things in its place."""
    producer = connection.Producer()
    for body, properties in foreign_messages():
        producer.publish(body, routing_key=queue, **properties)
    if connection.transport.driver_type == "redis":
        client = connection.default_channel.client
        for raw in lines_of("raw_messages"):
            client.lpush(queue, raw.replace("QUEUE", queue).encode("latin-1"))
        for key in (queue, f"{queue}\x06\x163", *(f"{queue.partition('.')[0]}.{each}" for each in UNACKED)):
            wait_for(partial(client.set, key, "in the way", nx=True), 60, key)


def messages_left(connection: kombu.Connection, queue: str) -> int:
    """How many messages wait in a queue, or were taken and are not acknowledged."""
    channel = connection.channel()
    if connection.transport.driver_type != "redis":
        return int(channel.queue_declare(queue, passive=True).message_count)
    client = channel.client
    assert client.type(queue) in (b"list", b"none")
    taken = (client.zcard(key) for key in client.keys("*unacked_index"))
    return int(client.llen(queue) + sum(taken))


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_jobs_run_among_messages_of_other_people_and_the_password_is_nowhere(
    scheme: str, urls: dict[str, str], start_worker: StartWorker, database: Database
) -> None:
    address = BrokerAddress.parse(urls[scheme])
    with database.begin() as connection:
        queue = f"hsstar-{models.database_id(connection)[:8]}.verify"
    with start_worker(urls[scheme], HSSTAR_LOG_LEVEL="debug") as worker:
        worker.wait_for_job(add_verification(database))
        with kombu.Connection(address.url, ssl=dict(address.tls or {})) as connection:
            jam(connection, queue)
            for _ in range(2):
                worker.wait_for_job(add_verification(database))
            wait_for(lambda: worker.row()["jobs_done"] == 3, 60, lambda: worker.said)
            wait_for(lambda: messages_left(connection, queue) == 0, 60, lambda: worker.said)
        assert worker.said.count("was dropped") >= len(lines_of("foreign_messages")) / 2
        assert ("Traceback" in worker.said, worker.said.count(" ready.")) == (False, 1)
        assert worker.row()["note"] is None
        assert PASSWORD not in " ".join(psutil.Process(worker.process.pid).cmdline())
        begun = time.monotonic()
        assert worker.end() == 0, worker.said
        assert time.monotonic() - begun < 20  # it has nothing to wait for
        assert " DEBUG " in worker.said
        assert PASSWORD not in worker.said
        assert worker.row()["state"] == "stopped"
    with database.begin() as connection:
        jobs = select(connection, "SELECT state, attempts FROM jobs WHERE kind = 'verify'")
    assert jobs == [("done", 1)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_a_certificate_of_an_unknown_authority_is_refused(scheme: str, urls: dict[str, str]) -> None:
    """By the check whose result is a worker's note, and by Celery, which takes the messages."""
    url = urls[scheme].partition("?")[0]
    with pytest.raises(BrokerError, match="certificate verify failed"):
        BrokerAddress.parse(url).check()
    refused = pytest.raises(Exception, match="certificate verify failed")
    with make_app("test", url) as app, app.connection_for_read() as connection, refused:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
        connection.default_channel.close()


def test_a_wrong_password_is_said_without_the_password(
    urls: dict[str, str], start_worker: StartWorker
) -> None:
    wrong = {scheme: url.replace(PASSWORD, "n0t-it") for scheme, url in urls.items()}
    for url in wrong.values():
        with pytest.raises(BrokerError, match="does not let us in") as refusal:
            BrokerAddress.parse(url).check()
        assert "n0t-it" not in str(refusal.value)
    with start_worker(wrong["amqp"]) as worker:  # ends, and its supervisor tries again
        assert worker.process.wait(120) == 1
        assert "does not let us in" in str(worker.row()["note"])
        assert "n0t-it" not in worker.said + str(worker.row()["note"])


@contextmanager
def away(broker: Server) -> Iterator[None]:
    broker.kill()
    try:
        yield
    finally:
        broker.start()


@pytest.mark.heavy
def test_a_worker_begins_without_its_broker_and_goes_on_when_it_is_there(
    redis: Server, start_worker: StartWorker, database: Database
) -> None:
    with ExitStack() as stack:
        with away(redis):
            job_id = add_verification(database)
            worker = stack.enter_context(start_worker(redis.urls["redis"]))
            worker.wait_for("note", "does not let us in")
            wait_for(lambda: re.search(r"Trying again in [24]\.00 seconds", worker.said))
            assert worker.row()["state"] in ("idle", "busy")  # busy where it has taken the job by itself
        worker.wait_for_job(job_id)
        worker.wait_for("note", "answers again")
        assert worker.end() == 0


@pytest.mark.heavy
def test_a_worker_goes_on_when_its_broker_comes_back(
    rabbitmq: Server, start_worker: StartWorker, database: Database
) -> None:
    with start_worker(rabbitmq.urls["amqp"]) as worker:
        worker.wait_for_job(add_verification(database))
        with away(rabbitmq):
            second = add_verification(database)
            worker.wait_for("note", "does not let us in")
        worker.wait_for_job(second)
        worker.wait_for("note", "answers again")
        assert worker.end() == 0


@pytest.mark.heavy
def test_ports_that_never_answer_hold_up_no_heartbeat_and_no_end(
    start_worker: StartWorker, database: Database
) -> None:
    add_verification(database)
    with black_hole() as port, ExitStack() as stack:
        fleet = [
            stack.enter_context(start_worker(f"{scheme}://me:{PASSWORD}@localhost:{port}//", scheme))
            for scheme in ("redis", "rediss", "amqp", "amqps")
        ]
        for worker in fleet:
            worker.wait_for("note", "does not let us in")
        with database.begin() as connection:
            age = "SELECT max(extract(epoch FROM now() - last_heartbeat)) FROM workers"
            assert float(connection.execute(text(age)).scalar_one()) < 6
        for worker in fleet:
            worker.process.terminate()
        for worker in fleet:
            assert worker.process.wait(60) == 0, worker.said
            assert PASSWORD not in worker.said
