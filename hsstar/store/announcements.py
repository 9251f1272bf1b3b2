"""Wake-ups: which queued jobs a message has to go out for, and which have waited for one in vain."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind

_ANNOUNCE_AGAIN_SECONDS = 5
_UNHEARD_SECONDS = 8  # a message that was sent again has had its time
_ANNOUNCED = 128  # of a kind at a time: more than there are idle workers, as a rule


def unheard(connection: Connection, kinds: Sequence[JobKind]) -> bool:
    """Whether a job of these kinds has waited so long that its message must have gone astray."""
    found = connection.scalar(
        text("""
            SELECT EXISTS (
                SELECT FROM jobs
                WHERE state = 'queued' AND kind = ANY (:kinds)
                  AND available_at < now() - make_interval(secs => :patience)
            )
        """),
        {"kinds": [kind.value for kind in kinds], "patience": _UNHEARD_SECONDS},
    )
    return bool(found)


def take_announcements(connection: Connection) -> list[tuple[int, JobKind]]:
    """Jobs whose wake-up has to be sent now; they count as announced when this commits.

    A queued job is announced once, and again only while a live worker of its kind sits idle: then
    its message must have been lost. Of a long queue only the head is announced: whoever hears of it goes on
    with the rest.
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
                      announced_at IS NULL
                      OR announced_at < now() - make_interval(secs => :again)
                      AND EXISTS (
                          SELECT FROM workers
                          WHERE workers.state = 'idle'
                            AND jobs.kind = ANY (string_to_array(workers.role, ','))
                            AND workers.last_heartbeat > now() - interval '1 minute'
                      )
                  )
                ORDER BY id FOR UPDATE SKIP LOCKED
            )
            UPDATE jobs SET announced_at = now() FROM due WHERE jobs.id = due.id
            RETURNING jobs.id, jobs.kind
        """),
        {"again": _ANNOUNCE_AGAIN_SECONDS, "head": _ANNOUNCED, "kinds": [kind.value for kind in JobKind]},
    )
    return sorted((row.id, JobKind(row.kind)) for row in rows)


def unannounce(connection: Connection, job_ids: Sequence[int]) -> None:
    """Takes back announcements whose message could not be sent."""
    connection.execute(
        text("UPDATE jobs SET announced_at = NULL WHERE id = ANY (:ids) AND state = 'queued'"),
        {"ids": list(job_ids)},
    )
