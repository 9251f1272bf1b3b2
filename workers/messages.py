"""Messages: the id of a job goes into the broker, and what comes out is the id of a job or nothing.

Whoever reaches the broker can put anything there. No message ends a process, keeps its place or delays
another: what names no job is dropped with one line in the log.
"""

import json
import logging
import uuid
from collections.abc import Iterable
from queue import Empty
from typing import Any

from celery import Celery
from celery.worker.consumer.consumer import Consumer
from kombu import compression
from kombu.message import Message
from kombu.transport import TRANSPORT_ALIASES, redis

from hsstar.domain.lifecycle import JobKind

log = logging.getLogger("hsstar.worker")

TASK = "hsstar.run_job"
_LONGEST_BODY = 1_000
"""Characters; ours have some 80."""


def queue_name(app: Celery, kind: JobKind) -> str:
    """Return the name of a queue; it begins with that of the database, as a broker may serve several."""
    return f"{app.main}.{kind}"


def send_wake_up(app: Celery, job_id: int, kind: JobKind) -> None:
    """Send the message that wakes a worker for a job."""
    app.send_task(TASK, args=[job_id], queue=queue_name(app, kind), retry=False)


def trust_no_message() -> None:
    """Make kombu, in this process, read Redis through `RedisChannel` and decompress nothing."""
    transport = f"{__name__}:{RedisTransport.__name__}"
    TRANSPORT_ALIASES.update({"redis": transport, "rediss": transport})
    for name in compression.encoders():
        compression.register(_refuse, _refuse, name)


class JobConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, which sees no more of a message than the id of a job."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Any:
        """Return what is called with each message."""
        run = super().create_task_handler(*arguments, **options)

        def receive(message: Message) -> None:
            job_id = _job_id(message.body)
            if job_id is None:
                self.on_decode_error(message, None)
            else:
                run(_rewritten(message, job_id))

        return receive

    def on_decode_error(self, message: Message, exc: Exception | None) -> None:
        """Drop a message that names no job."""
        log.warning("a message that names no job was dropped")
        message.delivery_info = {}
        message.ack_log_error(log, self.connection_errors)


def _job_id(body: Any) -> int | None:
    """Read the body of a message of `send_wake_up`: `[[job id], {}, …]` in JSON."""
    try:
        text = body if isinstance(body, str) else bytes(body).decode()
        job_id = json.loads(text)[0][0] if len(text) <= _LONGEST_BODY else None
    except (TypeError, ValueError, LookupError, RecursionError):
        return None
    return job_id if type(job_id) is int and 0 < job_id < 1 << 63 else None


def _rewritten(message: Message, job_id: int) -> Message:
    """Replace everything that the sender has chosen."""
    message.headers = {"task": TASK, "id": str(uuid.uuid4()), "lang": "py"}
    message.body = json.dumps([[job_id], {}, {}])
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.properties, message.delivery_info = {}, {}
    return message


def _refuse(body: Any) -> Any:
    raise ValueError("compressed messages are not read")


class RedisChannel(redis.Channel):  # type: ignore[misc]  # kombu has no types
    """Redis, where anything may stand in a queue, and anything under a queue's name."""

    def queue_declare(self, queue: str, **options: Any) -> Any:
        """Declare a queue, whatever stands under its name."""
        self._set_aside([queue])
        return super().queue_declare(queue, **options)

    def _brpop_read(self, **options: Any) -> Any:
        """Deliver one message; drop what is none."""
        try:
            return super()._brpop_read(**options)
        except Empty:
            raise
        except self.ResponseError:
            if not self._set_aside(self.active_queues):
                raise
        except Exception as error:
            if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                raise
            log.warning("what stood in a queue is no message and was dropped")
        raise Empty

    def _set_aside(self, queues: Iterable[str]) -> bool:
        """Rename the keys of another type that are in our way; tell whether there were any."""
        keys = {self.unacked_key: b"hash", self.unacked_index_key: b"zset", self.unacked_mutex_key: b"string"}
        for queue in queues:
            keys |= {self._q_for_pri(queue, step): b"list" for step in self.priority_steps}
            bindings = (self.keyprefix_queue, self.keyprefix_binding_permanent)
            keys |= {prefix % queue: b"set" for prefix in bindings}
        found = False
        with self.conn_or_acquire() as client:
            for key, kind in keys.items():
                if client.type(key) not in (kind, b"none"):
                    aside = f"{key}.set-aside-{uuid.uuid4().hex[:8]}"
                    client.rename(key, aside)
                    log.warning("the broker's key %s is no %s and was renamed %s", key, kind.decode(), aside)
                    found = True
        return found


class RedisTransport(redis.Transport):  # type: ignore[misc]  # kombu has no types
    """Redis read through `RedisChannel`."""

    Channel = RedisChannel
