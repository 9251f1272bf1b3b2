-- What waits and what runs in each queue, of all runs; one row a kind of job. Parameter: kinds.
SELECT
    kind,
    coalesce(CAST(max(extract(epoch FROM now() - available_at)) FILTER (
        WHERE state = 'queued' AND available_at <= now()
    ) AS double precision), 0) AS oldest_seconds,
    coalesce(CAST(max(extract(epoch FROM now() - moved_at)) FILTER (
        WHERE state = 'running' AND lease_expires_at > now()
    ) AS double precision), 0) AS still_seconds
FROM unnest(CAST(:kinds AS text[])) AS kind
LEFT JOIN (
    SELECT kind, state, available_at, moved_at, lease_expires_at FROM jobs WHERE state IN ('queued', 'running')
) AS live USING (kind)
GROUP BY kind
ORDER BY kind
