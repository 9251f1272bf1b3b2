"""The Celery application of a database."""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.worker.components import Hub

from hsstar.broker import CONNECT_SECONDS, BrokerAddress
from hsstar.workers.messages import JobConsumer, trust_no_message

_TICK_SECONDS = 1.0


def make_app(database_id: str, broker_url: str, authority: Path | None = None) -> Celery:
    """Make the application for this broker; messages are acknowledged early: leases recover lost work."""
    trust_no_message()
    broker = BrokerAddress.parse(broker_url, authority)
    app = Celery(f"hsstar-{database_id[:8]}", broker=broker.url)
    options = dict(broker.options)
    if broker.url.startswith("redis"):
        options |= {
            f"{key}_key": f"{app.main}.{key}" for key in ("unacked", "unacked_index", "unacked_mutex")
        }
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
        broker_transport_options=options,
        worker_consumer=f"{JobConsumer.__module__}:{JobConsumer.__name__}",
        broker_use_ssl=dict(broker.tls) if broker.tls else None,
    )
    app.steps["worker"].add(_Tick)
    return app


class _Tick(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Wakes Celery's event loop, which looks only then whether to end: over RabbitMQ every ten seconds."""

    requires = (Hub,)

    def include_if(self, parent: Any) -> bool:
        return bool(parent.use_eventloop)

    def start(self, parent: Any) -> None:
        parent.hub.call_repeatedly(_TICK_SECONDS, lambda: None)
