-- The queues in which a run has jobs that are not done, with the live workers that serve each.
--
-- Parameters: run_id, overdue (seconds after which a wake-up that was never sent is overdue). Only the head of a long
-- queue gets wake-ups, so none is overdue while the head has one. A running job whose lease has expired is abandoned.
SELECT
    jobs.kind,
    count(*) FILTER (WHERE jobs.state = 'queued') AS queued,
    count(*) FILTER (WHERE jobs.state = 'running') AS running,
    count(*) FILTER (WHERE jobs.state = 'failed') AS failed,
    (
        SELECT count(*) FROM worker_activity
        WHERE jobs.kind = ANY (string_to_array(role, ',')) AND state IN ('idle', 'busy')
    ) AS workers,
    count(*) FILTER (
        WHERE jobs.state = 'queued'
          AND wakeup_sent_at IS NULL
          AND available_at < now() - make_interval(secs => :overdue)
          AND NOT EXISTS (
              SELECT FROM jobs AS head
              WHERE head.kind = jobs.kind AND head.state = 'queued' AND head.wakeup_sent_at IS NOT NULL
          )
    ) AS wakeups_due,
    CAST(min(extract(epoch FROM available_at - now()))
        FILTER (WHERE jobs.state = 'queued' AND available_at > now()) AS double precision) AS next_attempt_seconds,
    CAST(max(extract(epoch FROM now() - moved_at))
        FILTER (WHERE jobs.state = 'running' AND lease_expires_at > now()) AS double precision) AS still_seconds,
    count(*) FILTER (WHERE jobs.state = 'running' AND lease_expires_at <= now()) AS abandoned,
    (array_agg(error ORDER BY jobs.id DESC) FILTER (WHERE error IS NOT NULL))[1] AS last_error
FROM jobs
JOIN rounds ON rounds.id = jobs.round_id
WHERE rounds.run_id = :run_id AND jobs.state NOT IN ('done', 'discarded')
GROUP BY jobs.kind
ORDER BY jobs.kind
