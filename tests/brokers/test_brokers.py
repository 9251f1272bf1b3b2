"""Workers over Redis and RabbitMQ, with passwords and TLS; brokers that are away; forged messages."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kombu
import psutil
import pytest
from sqlalchemy import text

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from tests.brokers.conftest import StartWorker
from tests.brokers.servers import PASSWORD, Server, black_hole
from tests.waiting import wait_for

SCHEMES = ["redis", "rediss", "amqp", "amqps"]

AddJob = Callable[[], int]
WaitForJob = Callable[..., None]


def foreign_messages() -> Iterator[tuple[str | bytes, dict[str, Any]]]:
    """Bodies and properties that no hsstar ever sends."""
    for line in Path(__file__).with_name("foreign_messages.jsonl").read_text().splitlines():
        properties = json.loads(line)
        body = properties.pop("body") * properties.pop("times", 1)
        binary = properties["content_encoding"] == "binary"
        yield (body.encode("latin-1") if binary else body), properties


@pytest.mark.parametrize("broker", SCHEMES, indirect=True)
def test_jobs_run_among_messages_of_other_people_and_the_password_is_nowhere(
    broker: tuple[Server, str],
    start_worker: StartWorker,
    add_verification: AddJob,
    wait_for_job: WaitForJob,
    database: Database,
) -> None:
    address = BrokerAddress.parse(broker[1])
    with start_worker(broker[1], HSSTAR_LOG_LEVEL="debug") as worker:
        wait_for_job(add_verification(), worker)
        ssl = dict(address.tls) if address.tls else False
        with kombu.Connection(address.url, ssl=ssl) as connection:
            producer = connection.Producer()
            for body, properties in foreign_messages():
                producer.publish(body, routing_key="verify", **properties)
        for _ in range(2):
            wait_for_job(add_verification(), worker)
        wait_for(lambda: worker.row()["jobs_done"] == 3, 60, lambda: worker.said)
        assert worker.row()["note"] is None
        assert worker.process.poll() is None
        assert PASSWORD not in " ".join(psutil.Process(worker.process.pid).cmdline())
        assert worker.end() == 0, worker.said
        assert " DEBUG " in worker.said
        assert PASSWORD not in worker.said
        assert worker.row()["state"] == "stopped"
    with database.begin() as connection:
        states = connection.execute(text("SELECT state, attempts FROM jobs WHERE kind = 'verify'")).all()
    assert [tuple(row) for row in states] == [("done", 1)] * 3


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    scheme: str, request: pytest.FixtureRequest
) -> None:
    """By the check whose result is a worker's note, and by Celery, which takes the messages."""
    server: Server = request.getfixturevalue("redis" if scheme == "rediss" else "rabbitmq")
    url = server.urls[scheme].partition("?")[0]
    with pytest.raises(BrokerError, match="certificate verify failed"):
        BrokerAddress.parse(url).check()
    with (
        make_app(url) as app,
        app.connection_for_read() as connection,
        pytest.raises(Exception, match="certificate verify failed"),
    ):
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
        connection.default_channel.close()


def test_a_wrong_password_is_said_without_the_password(
    redis: Server, rabbitmq: Server, start_worker: StartWorker
) -> None:
    wrong = {scheme: (redis.urls | rabbitmq.urls)[scheme].replace(PASSWORD, "n0t-it") for scheme in SCHEMES}
    for url in wrong.values():
        with pytest.raises(BrokerError, match="does not let us in") as refusal:
            BrokerAddress.parse(url).check()
        assert "n0t-it" not in str(refusal.value)
    with start_worker(wrong["amqp"]) as worker:  # ends, and its supervisor tries again
        assert worker.process.wait(120) == 1
        assert "does not let us in" in str(worker.row()["note"])
        assert "n0t-it" not in worker.said + str(worker.row()["note"])


def test_a_worker_begins_without_its_broker_and_goes_on_when_it_is_there(
    redis: Server, start_worker: StartWorker, add_verification: AddJob, wait_for_job: WaitForJob
) -> None:
    redis.kill()
    try:
        job_id = add_verification()
        with start_worker(redis.urls["redis"]) as worker:
            worker.wait_for_note("does not let us in")
            worker.wait_for_words(r"Trying again in [24]\.00 seconds")
            assert worker.row()["state"] in ("idle", "busy")  # busy where it has taken the job by itself
            redis.start()
            wait_for_job(job_id, worker)
            worker.wait_for_note("answers again")
            assert worker.end() == 0
    finally:
        if redis.process is None:
            redis.start()


@pytest.mark.heavy
def test_a_worker_goes_on_when_its_broker_comes_back(
    rabbitmq: Server, start_worker: StartWorker, add_verification: AddJob, wait_for_job: WaitForJob
) -> None:
    with start_worker(rabbitmq.urls["amqp"]) as worker:
        wait_for_job(add_verification(), worker)
        rabbitmq.kill()
        try:
            second = add_verification()
            worker.wait_for_note("does not let us in")
        finally:
            rabbitmq.start()
        wait_for_job(second, worker)
        worker.wait_for_note("answers again")
        assert worker.end() == 0


def test_ports_that_never_answer_hold_up_no_heartbeat_and_no_end(
    start_worker: StartWorker, add_verification: AddJob, database: Database
) -> None:
    add_verification()
    with black_hole() as port, ExitStack() as stack:
        workers = [
            stack.enter_context(start_worker(f"{scheme}://me:{PASSWORD}@localhost:{port}//", scheme))
            for scheme in SCHEMES
        ]
        for worker in workers:
            worker.wait_for_note("does not let us in")
        with database.begin() as connection:
            age = connection.scalar(
                text("SELECT max(extract(epoch FROM now() - last_heartbeat)) FROM workers")
            )
        assert float(age) < 6
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            assert worker.process.wait(60) == 0, worker.said
            assert PASSWORD not in worker.said
