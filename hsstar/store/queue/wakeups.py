"""Wake-ups: which queued jobs need a message now, and whether messages are missing."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind

_SEND_AGAIN_SECONDS = 5
_UNSERVED_SECONDS = 8  # long enough for a message that was sent again
_HEAD = 128  # jobs of a kind at a time: usually more than there are idle workers


def has_unserved_jobs(connection: Connection, kinds: Sequence[JobKind]) -> bool:
    """Tell whether a job of these kinds waits so long that its message must be lost."""
    waits = connection.scalar(
        text("""
            SELECT EXISTS (
                SELECT FROM jobs
                WHERE state = 'queued' AND kind = ANY (:kinds)
                  AND available_at < now() - make_interval(secs => :unserved)
            )
        """),
        {"kinds": [kind.value for kind in kinds], "unserved": _UNSERVED_SECONDS},
    )
    return bool(waits)


def claim_due_wakeups(connection: Connection) -> list[tuple[int, JobKind]]:
    """Claim the jobs whose wake-up is due; it counts as sent when this commits.

    A queued job gets one wake-up, and another only while a live worker of its kind is idle: then the message
    must be lost. In a long queue only the head gets wake-ups, because a woken worker takes further jobs too.
    """
    rows = connection.execute(
        text("""
            WITH due AS (
                SELECT id FROM jobs
                WHERE id IN (
                    SELECT head.id
                    FROM unnest(CAST(:kinds AS text[])) AS queue (kind)
                    CROSS JOIN LATERAL (
                        SELECT id FROM jobs
                        WHERE state = 'queued' AND jobs.kind = queue.kind AND available_at <= now()
                        ORDER BY id LIMIT :head
                    ) AS head
                )
                  AND state = 'queued'
                  AND (
                      wakeup_sent_at IS NULL
                      OR wakeup_sent_at < now() - make_interval(secs => :again)
                      AND EXISTS (
                          SELECT FROM workers
                          WHERE workers.state = 'idle'
                            AND jobs.kind = ANY (string_to_array(workers.role, ','))
                            AND workers.last_heartbeat > now() - interval '1 minute'
                      )
                  )
                ORDER BY id FOR UPDATE SKIP LOCKED
            )
            UPDATE jobs SET wakeup_sent_at = now() FROM due WHERE jobs.id = due.id
            RETURNING jobs.id, jobs.kind
        """),
        {"again": _SEND_AGAIN_SECONDS, "head": _HEAD, "kinds": [kind.value for kind in JobKind]},
    )
    return sorted((row.id, JobKind(row.kind)) for row in rows)


def reset_wakeups(connection: Connection, job_ids: Sequence[int]) -> None:
    """Mark wake-ups as not sent: their message could not be sent or was used for another job."""
    connection.execute(
        text("UPDATE jobs SET wakeup_sent_at = NULL WHERE id = ANY (:ids) AND state = 'queued'"),
        {"ids": list(job_ids)},
    )
