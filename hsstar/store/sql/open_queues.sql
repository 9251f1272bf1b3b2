-- The jobs of all runs that are not done, by kind: how long the oldest waits, and who serves the kind. No parameters.
SELECT
    jobs.kind,
    count(*) FILTER (WHERE jobs.state = 'queued') AS queued,
    count(*) FILTER (WHERE jobs.state = 'running') AS running,
    count(*) FILTER (WHERE jobs.state = 'failed') AS failed,
    CAST(max(extract(epoch FROM now() - available_at))
        FILTER (WHERE jobs.state = 'queued' AND available_at <= now()) AS double precision) AS waited_seconds,
    CAST(max(extract(epoch FROM now() - moved_at))
        FILTER (WHERE jobs.state = 'running' AND lease_expires_at > now()) AS double precision) AS still_seconds,
    (
        SELECT count(*) FROM worker_activity
        WHERE jobs.kind = ANY (string_to_array(role, ',')) AND state IN ('idle', 'busy')
    ) AS workers
FROM jobs
WHERE jobs.state IN ('queued', 'running', 'failed')
GROUP BY jobs.kind
ORDER BY jobs.kind
