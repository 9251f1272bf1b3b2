-- Records that a worker lives, extends the leases of its jobs, and returns what it has to know.
--
-- One statement that waits for no lock of a job and not for the disk: a thousand workers send it all the time. As a
-- function it is planned once a session, also behind PgBouncer; planning took half of its time. For each job that the
-- worker holds: the token of its lease, and for how many seconds it has got no further. `kinds`: whose jobs it could
-- take now. `stop` is null if the row belongs to another process by now.
CREATE FUNCTION heartbeat(
    worker_name text,
    worker_instance uuid,
    worker_state text,
    jobs integer,
    tokens bigint,
    held_jobs bigint[],
    held_tokens uuid[],
    held_still double precision[],
    lease_seconds double precision,
    kinds text[],
    unserved_seconds double precision,
    may_sweep boolean,
    sweeper_seconds double precision,
    OUT schema text,
    OUT stop boolean,
    OUT sweeps boolean,
    OUT workers integer,
    OUT unserved boolean
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH
    held AS (
        SELECT jobs.id, held.still
        FROM jobs
        JOIN unnest(held_jobs, held_tokens, held_still) AS held (id, token, still)
            ON jobs.id = held.id AND jobs.lease_token = held.token
        ORDER BY jobs.id
        FOR UPDATE OF jobs SKIP LOCKED
    ),
    extended AS (
        UPDATE jobs
        SET lease_expires_at = now() + make_interval(secs => lease_seconds),
            moved_at = now() - make_interval(secs => held.still)
        FROM held
        WHERE jobs.id = held.id
    ),
    own AS (
        UPDATE workers
        SET last_heartbeat = now(), state = worker_state, jobs_done = heartbeat.jobs, tokens_done = tokens
        WHERE name = worker_name AND instance = worker_instance
        RETURNING stop_requested_at IS NOT NULL AS stop
    ),
    sweeping AS (
        UPDATE sweeper
        SET instance = worker_instance, until = now() + make_interval(secs => sweeper_seconds)
        WHERE may_sweep AND (instance = worker_instance OR until < now())
        RETURNING instance
    )
    SELECT
        (SELECT version_num FROM alembic_version),
        (SELECT own.stop FROM own),
        EXISTS (SELECT FROM sweeping),
        (SELECT sweeper.workers FROM sweeper),
        EXISTS (
            SELECT FROM unnest(kinds) AS taken (kind)
            CROSS JOIN LATERAL (
                SELECT available_at FROM jobs
                WHERE state = 'queued' AND jobs.kind = taken.kind
                ORDER BY id LIMIT 128
            ) AS oldest
            WHERE available_at < now() - make_interval(secs => unserved_seconds)
        )
    INTO schema, stop, sweeps, workers, unserved;
END $$;
