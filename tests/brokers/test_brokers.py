"""Workers over Redis and RabbitMQ, with passwords and TLS; brokers that are away; forged messages."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import kombu
import psutil
import pytest
from sqlalchemy import text

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BadInputError
from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from hsstar.workers.app import TASK, make_app, send_wake_up
from tests.brokers.conftest import StartWorker
from tests.brokers.servers import PASSWORD, Server, black_hole, wait_until

by_scheme = pytest.mark.parametrize("broker", ["redis", "rediss", "amqp", "amqps"], indirect=True)
by_server = pytest.mark.parametrize("broker", ["redis", "amqp"], indirect=True)

AddJob = Callable[[], int]
WaitForJob = Callable[..., None]


@by_scheme
def test_jobs_run_and_the_password_is_nowhere(
    broker: tuple[Server, str], start_worker: StartWorker, add_verification: AddJob, wait_for_job: WaitForJob
) -> None:
    with start_worker(broker[1], HSSTAR_LOG_LEVEL="debug") as worker:
        for _ in range(3):
            wait_for_job(add_verification(), worker)
        wait_until(lambda: worker.row()["jobs_done"] == 3, lambda: worker.said)
        assert worker.row()["note"] is None
        assert PASSWORD not in " ".join(psutil.Process(worker.process.pid).cmdline())
        assert worker.end() == 0
        assert PASSWORD not in worker.said
        assert worker.row()["state"] == "stopped"


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    scheme: str, request: pytest.FixtureRequest, start_worker: StartWorker
) -> None:
    server: Server = request.getfixturevalue("redis" if scheme == "rediss" else "rabbitmq")
    url = server.urls[scheme].partition("?")[0]
    with start_worker(url) as worker:
        wait_until(
            lambda: "certificate verify failed" in (worker.row().get("note") or ""), lambda: worker.said
        )
        assert "certificate verify failed" in worker.said
        assert worker.end() == 0


@by_server
def test_a_wrong_password_is_said_without_the_password(
    broker: tuple[Server, str], start_worker: StartWorker, database: Database
) -> None:
    with start_worker(broker[1].replace(PASSWORD, "n0t-it")) as worker:
        wait_until(lambda: "does not let us in" in (worker.row().get("note") or ""), lambda: worker.said)
        if broker[1].startswith("amqp"):  # ends, and its supervisor tries again
            assert worker.process.wait(60) == 1
        assert "n0t-it" not in worker.said + str(worker.row()["note"])


@by_server
def test_a_worker_waits_for_a_broker_that_is_away_and_goes_on_when_it_is_back(
    broker: tuple[Server, str], start_worker: StartWorker, add_verification: AddJob, wait_for_job: WaitForJob
) -> None:
    server, url = broker
    server.kill()
    try:
        job_id = add_verification()
        with start_worker(url) as worker:
            wait_until(lambda: "does not let us in" in (worker.row().get("note") or ""), lambda: worker.said)
            worker.wait_for_words(r"Trying again in [24]\.00 seconds")
            assert worker.row()["state"] in ("idle", "busy")  # busy where it has taken the job by itself
            server.start()
            wait_for_job(job_id, worker)
            wait_until(lambda: "answers again" in str(worker.row()["note"]), lambda: worker.said)
            server.kill()  # in the middle of the life of the worker
            second = add_verification()
            wait_until(lambda: "does not let us in" in str(worker.row()["note"]), lambda: worker.said)
            server.start()
            wait_for_job(second, worker)
            assert worker.end() == 0
    finally:
        if server.process is None:
            server.start()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
def test_a_port_that_never_answers_holds_up_no_heartbeat_and_no_end(
    scheme: str, start_worker: StartWorker, add_verification: AddJob, database: Database
) -> None:
    add_verification()
    with black_hole() as port, start_worker(f"{scheme}://me:{PASSWORD}@localhost:{port}//") as worker:
        wait_until(lambda: "does not let us in" in (worker.row().get("note") or ""), lambda: worker.said)
        with database.begin() as connection:
            age = connection.scalar(text("SELECT extract(epoch FROM now() - last_heartbeat) FROM workers"))
        assert float(age) < 6
        begun = time.monotonic()
        assert worker.end() == 0
        assert time.monotonic() - begun < 30
        assert PASSWORD not in worker.said


def _messages() -> list[tuple[str | bytes, dict[str, object]]]:
    """Bodies and properties that no hsstar ever sends."""
    task = {"task": "hsstar.run_job", "id": "1", "lang": "py"}
    as_json = {"content_type": "application/json", "content_encoding": "utf-8"}

    def named(
        arguments: object, keywords: object = None, **embedded: object
    ) -> tuple[str, dict[str, object]]:
        body = [
            arguments,
            keywords or {},
            {"callbacks": None, "errbacks": None, "chain": None, "chord": None} | embedded,
        ]
        return json.dumps(body), as_json | {"headers": task}

    return [
        named([]),
        named(["1; DROP TABLE jobs"]),
        named([-1]),
        named([0]),
        named([True]),
        named([2**63]),
        named([10**40]),
        named([1.5]),
        named([None]),
        named([{"id": 1}]),
        named([987654321]),
        named([1, 2, 3], {"self": 1, "job_id": 2, "__class__": "x"}),
        named([1], chain=[{"task": "os.system", "args": ["true"]}], errbacks=[{"task": "x"}]),
        named("not a list"),
        (json.dumps([[1], {}, {}]), as_json | {"headers": task | {"task": "celery.backend_cleanup"}}),
        (json.dumps([[1], {}, {}]), as_json | {"headers": task | {"task": "os.system"}}),
        (json.dumps([[1], {}, {}]), as_json | {"headers": {}}),
        (json.dumps([[1], {}, {}]), as_json | {"headers": task | {"eta": "no time", "expires": 7}}),
        ("[" * 100_000, as_json | {"headers": task}),
        ("{", as_json | {"headers": task}),
        (b"\x80\x04\x95\x1e\x00\x00\x00", {"content_type": "application/x-python-serialize",
                                            "content_encoding": "binary", "headers": task}),
        (b"\xff\xfe\x00", {"content_type": "application/octet-stream", "content_encoding": "binary",
                            "headers": task}),
        ("--- !!python/object/apply:os.system ['true']", {"content_type": "application/x-yaml",
                                                          "content_encoding": "utf-8", "headers": task}),
    ]  # fmt: skip


@by_server
def test_messages_of_other_people_are_survived(
    broker: tuple[Server, str],
    start_worker: StartWorker,
    add_verification: AddJob,
    wait_for_job: WaitForJob,
    database: Database,
) -> None:
    address = BrokerAddress.parse(broker[1])
    with start_worker(broker[1]) as worker:
        wait_for_job(add_verification(), worker)
        with kombu.Connection(address.url) as connection:
            producer = connection.Producer()
            for body, properties in _messages():
                producer.publish(body, routing_key="verify", **properties)
        for _ in range(2):
            wait_for_job(add_verification(), worker)
        assert worker.process.poll() is None
        assert worker.end() == 0, worker.said
    with database.begin() as connection:
        states = connection.execute(text("SELECT state, attempts FROM jobs WHERE kind = 'verify'")).all()
    assert [tuple(row) for row in states] == [("done", 1)] * 3


def test_a_message_is_a_job_id_in_json_and_nothing_else(
    redis: Server, add_verification: AddJob, database: Database
) -> None:
    url = redis.urls["redis"].removesuffix("0") + "5"  # a database of its own
    with make_app(url) as app:
        assert app.conf.accept_content == ["json"]
        send_wake_up(app, 7, JobKind.VERIFY)
    with kombu.Connection(url) as connection, connection.SimpleQueue("verify") as queue:
        message = queue.get(timeout=5)
        message.ack()
        assert message.content_type == "application/json"
        assert message.headers["task"] == TASK
        assert message.payload[0] == [7]
        assert message.payload[1] == {}


def test_tls_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for url, told in (
        ("rediss://h/0?ssl_ca_certs=/no/such/file", "existing files"),
        ("amqps://h//?ssl_cert_reqs=maybe", "required or none"),
        ("redis://h/0?ssl_cert_reqs=none", "not redis://"),
    ):
        with pytest.raises(BadInputError, match=told):
            BrokerAddress.parse(url)
    with pytest.raises(BadInputError, match="not amqp://"):
        BrokerAddress.parse("amqp://h//", tmp_path)
