"""The Celery application: a message is a job id, its queue the job's kind."""

from celery import Celery

from hsstar.domain.lifecycle import JobKind

TASK = "hsstar.run_job"
_CONNECT_SECONDS = 3


def make_app(broker_url: str) -> Celery:
    """An application on this broker. Results live in Postgres, so there is no result backend.

    Messages are acknowledged early: a lost one costs a wake-up, and leases recover the work.
    """
    app = Celery("hsstar", broker=broker_url)
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
        broker_connection_timeout=_CONNECT_SECONDS,
        broker_transport_options={"socket_connect_timeout": _CONNECT_SECONDS, "socket_keepalive": True},
    )
    return app


def send_wake_up(app: Celery, job_id: int, kind: JobKind) -> None:
    """Sends the message that wakes a worker for a job."""
    app.send_task(TASK, args=[job_id], queue=kind.value, retry=False)
