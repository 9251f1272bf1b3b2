-- The jobs that are not done, by kind, and what hinders them. No parameters.
SELECT
    kind,
    count(*) FILTER (WHERE state IN ('queued', 'running')) AS open,
    count(*) FILTER (WHERE state = 'failed') AS failed,
    count(*) FILTER (
        WHERE state = 'running' AND lease_expires_at < now() - interval '30 seconds'
    ) AS expired,
    count(*) FILTER (
        WHERE state = 'queued' AND available_at < now() - interval '1 minute' AND NOT EXISTS (
            SELECT FROM worker_activity AS live
            WHERE jobs.kind = ANY (string_to_array(live.role, ',')) AND live.state IN ('idle', 'busy')
        )
    ) AS unserved,
    coalesce(CAST(
        max(extract(epoch FROM now() - moved_at)) FILTER (WHERE state = 'running' AND lease_expires_at > now())
        AS double precision
    ), 0) AS still_seconds
FROM jobs
WHERE state <> 'done'
GROUP BY kind
ORDER BY kind
