-- Records that a worker lives, extends the leases of its jobs, and returns what it has to know.
--
-- One statement that waits for no lock of a job and not for the disk: a thousand workers send it all the time.
-- Parameters: name, instance, state, jobs_done, tokens_done, job_ids, tokens (of their leases) and still (seconds
-- for which each has got no further), lease (seconds), kinds (whose jobs it could take now), unserved (seconds that
-- a job may wait for its message), may_sweep, sweep (seconds for which a sweeper keeps its place). `stop` is null if
-- the row belongs to another process by now.
WITH
held AS (
    SELECT jobs.id, held.still
    FROM jobs
    JOIN unnest(CAST(:job_ids AS bigint[]), CAST(:tokens AS uuid[]), CAST(:still AS float[]))
        AS held (id, token, still)
        ON jobs.id = held.id AND jobs.lease_token = held.token
    ORDER BY jobs.id
    FOR UPDATE OF jobs SKIP LOCKED
),
extended AS (
    UPDATE jobs
    SET lease_expires_at = now() + make_interval(secs => :lease),
        moved_at = now() - make_interval(secs => held.still)
    FROM held
    WHERE jobs.id = held.id
),
own AS (
    UPDATE workers
    SET last_heartbeat = now(), state = :state, jobs_done = :jobs_done, tokens_done = :tokens_done
    WHERE name = :name AND instance = :instance
    RETURNING stop_requested_at IS NOT NULL AS stop
),
sweeping AS (
    UPDATE sweeper
    SET instance = :instance, until = now() + make_interval(secs => :sweep)
    WHERE :may_sweep AND (instance = :instance OR until < now())
    RETURNING instance
)
SELECT
    (SELECT version_num FROM alembic_version) AS schema,
    (SELECT stop FROM own) AS stop,
    EXISTS (SELECT FROM sweeping) AS sweeps,
    (SELECT workers FROM sweeper) AS workers,
    EXISTS (
        SELECT FROM jobs
        WHERE state = 'queued'
          AND kind = ANY (CAST(:kinds AS text[]))
          AND available_at < now() - make_interval(secs => :unserved)
    ) AS unserved,
    set_config('synchronous_commit', 'off', true)
