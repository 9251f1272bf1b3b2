"""What webhooks are told: decided in the transaction of the event, sent afterwards, outside of any."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import Event
from hsstar.domain.text import storable
from hsstar.store.database import execute_file, row_of, rows_of

_ATTEMPTS = 30
_FIRST_SECONDS, _LONGEST_SECONDS = 30.0, 3_600.0
"""Between two attempts: doubled each time. The last one comes a day after the first."""
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Notification:
    """An event that a webhook is to be told of."""

    id: int
    event: Event
    run: str
    detail: str  # a sentence for people
    decided_at: datetime
    url: str | None  # as the recipe says it; None if the recipe names none any more


@dataclass(frozen=True, slots=True)
class UnsentCount:
    """The notifications of a run that no webhook has taken yet."""

    run: str
    waiting: int
    given_up: int  # after the last attempt
    error: str | None  # of the newest attempt


def decide(connection: Connection, run_id: int, event: Event, detail: str) -> None:
    """Decide that an event is told, with its transaction, if the run's recipe asks for that."""
    execute_file(connection, "notify", {"run_id": run_id, "event": event, "detail": storable(detail)})


def decide_failure(connection: Connection, job_id: int, error: str) -> None:
    """Decide that a failed job is told, if the recipe asks for that and it is the only one of its run."""
    execute_file(connection, "notify_failure", {"job_id": job_id, "error": storable(error)})


def claim(connection: Connection) -> Notification | None:
    """Claim a notification that is due; None without one."""
    values = {"attempts": _ATTEMPTS, "first": _FIRST_SECONDS, "longest": _LONGEST_SECONDS}
    return row_of(execute_file(connection, "claim_notification", values), Notification)


def record_sent(connection: Connection, notification_id: int) -> None:
    """Record that the webhook has taken a notification: it is not sent again."""
    connection.execute(
        text("UPDATE notifications SET sent_at = now(), error = NULL WHERE id = :id"), {"id": notification_id}
    )


def record_error(connection: Connection, notification_id: int, error: str) -> None:
    """Record in one line why an attempt did not succeed."""
    connection.execute(
        text("UPDATE notifications SET error = :error WHERE id = :id AND sent_at IS NULL"),
        {"id": notification_id, "error": storable(error)[:_ERROR_CHARACTERS]},
    )


def count_unsent(connection: Connection, run_id: int | None = None) -> list[UnsentCount]:
    """Count the unsent notifications whose webhook has refused them, of one run or of all, by run."""
    rows = connection.execute(
        text("""
            SELECT runs.name AS run,
                count(*) FILTER (WHERE attempts < :attempts) AS waiting,
                count(*) FILTER (WHERE attempts >= :attempts) AS given_up,
                (array_agg(error ORDER BY notifications.id DESC) FILTER (WHERE error IS NOT NULL))[1] AS error
            FROM notifications JOIN runs ON runs.id = run_id
            WHERE sent_at IS NULL AND error IS NOT NULL
              AND (CAST(:run_id AS bigint) IS NULL OR run_id = :run_id)
            GROUP BY runs.id ORDER BY runs.id
        """),
        {"run_id": run_id, "attempts": _ATTEMPTS},
    )
    return rows_of(rows, UnsentCount)
