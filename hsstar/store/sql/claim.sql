-- Claims a job for a worker: this one, or the oldest of these kinds that nobody else is claiming.
--
-- Parameters: id (null for any), kinds, worker, token and lease (seconds) of the lease, before (the states that may
-- precede running), schema (the revision that the worker knows).
-- A claim does not wait for the disk. If the server itself dies within the next second, the job is queued again,
-- and the lease token keeps this worker from writing.
UPDATE jobs
SET state = 'running',
    attempts = attempts + 1,
    worker = :worker,
    lease_token = :token,
    lease_expires_at = now() + make_interval(secs => :lease),
    started_at = now(),
    moved_at = now()
WHERE id = coalesce(CAST(:id AS bigint), (
        SELECT head.id
        FROM unnest(CAST(:kinds AS text[])) AS queue (kind)
        CROSS JOIN LATERAL (
            SELECT id FROM jobs
            WHERE state = 'queued' AND jobs.kind = queue.kind AND available_at <= now()
            ORDER BY id LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS head
        ORDER BY head.id LIMIT 1
    ))
    AND state = ANY (:before)
    AND available_at <= now()
    AND (SELECT version_num FROM alembic_version) = :schema
    AND NOT EXISTS (SELECT FROM workers WHERE name = :worker AND stop_requested_at IS NOT NULL)
RETURNING id, round_id, kind, attempts, set_config('synchronous_commit', 'off', true)
