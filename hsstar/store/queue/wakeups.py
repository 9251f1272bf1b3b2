"""Wake-ups: which queued jobs need a message now."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import execute_file

_SEND_AGAIN_SECONDS = 5
UNSERVED_SECONDS = 8
"""How long a job waits until its message counts as lost: long enough for one that was sent again."""
_HEAD = 128  # jobs of a kind at a time: usually more than there are idle workers


def claim_due_wakeups(connection: Connection) -> list[tuple[int, JobKind]]:
    """Claim the jobs whose wake-up is due; it counts as sent when this commits.

    A queued job gets one wake-up, and another only while a live worker of its kind is idle: then the message
    must be lost. In a long queue only the head gets wake-ups, because a woken worker takes further jobs too.
    """
    values = {"again": _SEND_AGAIN_SECONDS, "head": _HEAD, "kinds": [kind.value for kind in JobKind]}
    rows = execute_file(connection, "claim_wakeups", values)
    return sorted((row.id, JobKind(row.kind)) for row in rows)


def reset_wakeups(connection: Connection, job_ids: Sequence[int]) -> None:
    """Mark wake-ups as not sent: their message could not be sent or was used for another job."""
    connection.execute(
        text("UPDATE jobs SET wakeup_sent_at = NULL WHERE id = ANY (:ids) AND state = 'queued'"),
        {"ids": list(job_ids)},
    )
