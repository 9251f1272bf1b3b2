"""The Celery application: a message is a job id, its queue the job's kind."""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.worker.components import Hub

from hsstar.broker import CONNECT_SECONDS, BrokerAddress
from hsstar.domain.lifecycle import JobKind

TASK = "hsstar.run_job"
_TICK_SECONDS = 1.0


def make_app(broker_url: str, authority: Path | None = None) -> Celery:
    """Make the application for this broker; messages are acknowledged early: leases recover lost work."""
    broker = BrokerAddress.parse(broker_url, authority)
    app = Celery("hsstar", broker=broker.url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_transport_options=dict(broker.options),
        broker_use_ssl=dict(broker.tls) if broker.tls else None,
    )
    app.steps["worker"].add(_Tick)
    return app


def send_wake_up(app: Celery, job_id: int, kind: JobKind) -> None:
    """Send the message that wakes a worker for a job."""
    app.send_task(TASK, args=[job_id], queue=kind.value, retry=False)


class _Tick(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Wakes Celery's event loop, which looks only then whether to end: over RabbitMQ every ten seconds."""

    requires = (Hub,)

    def include_if(self, parent: Any) -> bool:
        return bool(parent.use_eventloop)

    def start(self, parent: Any) -> None:
        parent.hub.call_repeatedly(_TICK_SECONDS, lambda: None)
