-- Claims the jobs whose wake-up is due: of each kind the head of its queue.
--
-- Parameters: kinds, head (jobs of a kind), again (seconds after which a message is sent again).
WITH
-- a message is sent again only while a live worker could have taken the job: then it must be lost
idle AS (
    SELECT DISTINCT unnest(string_to_array(role, ',')) AS kind
    FROM workers
    WHERE state = 'idle' AND last_heartbeat > now() - interval '1 minute'
),
heads AS (
    SELECT head.id
    FROM unnest(CAST(:kinds AS text[])) AS queue (kind)
    CROSS JOIN LATERAL (
        SELECT id, wakeup_sent_at FROM jobs
        WHERE state = 'queued' AND jobs.kind = queue.kind AND available_at <= now()
        ORDER BY id LIMIT :head
    ) AS head
    WHERE head.wakeup_sent_at IS NULL
       OR head.wakeup_sent_at < now() - make_interval(secs => :again) AND queue.kind IN (SELECT kind FROM idle)
),
due AS (
    SELECT id FROM jobs
    WHERE id IN (SELECT id FROM heads)
      AND state = 'queued'
      AND (wakeup_sent_at IS NULL OR wakeup_sent_at < now() - make_interval(secs => :again))
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET wakeup_sent_at = now() FROM due WHERE jobs.id = due.id
RETURNING jobs.id, jobs.kind
