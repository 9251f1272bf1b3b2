-- Claims a due notification: until its next attempt is due, no other process sends it.
--
-- Parameters: attempts (at most), first and longest (seconds between two attempts).
WITH
due AS (
    SELECT id
    FROM notifications
    WHERE sent_at IS NULL AND due_at <= now() AND attempts < :attempts
    ORDER BY due_at, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
UPDATE notifications
SET attempts = attempts + 1,
    due_at = now() + make_interval(secs => least(:longest, :first * 2 ^ attempts))
FROM due, runs
WHERE notifications.id = due.id AND runs.id = notifications.run_id
RETURNING
    notifications.id,
    notifications.event,
    runs.name AS run,
    notifications.detail,
    notifications.decided_at,
    runs.recipe -> 'notify' ->> 'url' AS url
