-- Enqueues what a round still lacks: wanted − there − held by a job that has not ended well.
--
-- One query serves the three kinds of work on samples. Parameters: round_id, kind (sample | verify |
-- score), problem_ids (only these problems; null for all), job_samples (samples per job).
-- Returns the ids of the new jobs. The caller holds the round's lock; running it again adds nothing.
WITH
scope AS (
    SELECT problem_id, position, allotment
    FROM round_problems
    WHERE round_id = :round_id
      AND exclusion IS NULL
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
drawn AS (
    SELECT samples.problem_id, samples.slot, samples.cause IS NULL AS unverified, min_reward IS NULL AS unscored
    FROM samples
    WHERE round_id = :round_id
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
-- allotment − drawn, per problem: slots are listed only where something is short
short AS (
    SELECT scope.problem_id, scope.allotment
    FROM scope
    LEFT JOIN drawn ON drawn.problem_id = scope.problem_id AND drawn.slot < scope.allotment
    WHERE :kind = 'sample'
    GROUP BY scope.problem_id, scope.allotment
    HAVING count(drawn.slot) < scope.allotment
),
lacking AS (
    SELECT short.problem_id, wanted.slot
    FROM short
    CROSS JOIN LATERAL generate_series(0, short.allotment - 1) AS wanted (slot)
    WHERE NOT EXISTS (
        SELECT FROM drawn WHERE drawn.problem_id = short.problem_id AND drawn.slot = wanted.slot
    )
    UNION ALL
    SELECT problem_id, slot FROM drawn WHERE :kind = 'verify' AND unverified
    UNION ALL
    SELECT problem_id, slot FROM drawn WHERE :kind = 'score' AND unscored
),
-- a failed job keeps its items until it is retried, so that poison is not drawn again for ever
held AS (
    SELECT job_items.problem_id, held_slot.slot
    FROM jobs
    JOIN job_items ON job_items.job_id = jobs.id
    CROSS JOIN LATERAL unnest(job_items.slots) AS held_slot (slot)
    WHERE jobs.round_id = :round_id AND jobs.kind = :kind AND jobs.state <> 'done'
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR job_items.problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
chunks AS (
    SELECT
        lacking.problem_id,
        lacking.slot,
        (row_number() OVER (ORDER BY scope.position, lacking.slot) - 1) / CAST(:job_samples AS bigint) AS chunk
    FROM lacking
    JOIN scope USING (problem_id)
    WHERE NOT EXISTS (
        SELECT FROM held WHERE held.problem_id = lacking.problem_id AND held.slot = lacking.slot
    )
),
new_jobs AS (
    INSERT INTO jobs (round_id, kind)
    SELECT :round_id, :kind FROM (SELECT DISTINCT chunk FROM chunks) AS numbered
    RETURNING id
),
-- which job takes which chunk does not matter, only that each takes one
numbered_jobs AS (
    SELECT id, row_number() OVER (ORDER BY id) - 1 AS chunk FROM new_jobs
),
items AS (
    INSERT INTO job_items (job_id, problem_id, slots)
    SELECT numbered_jobs.id, chunks.problem_id, array_agg(chunks.slot ORDER BY chunks.slot)
    FROM chunks
    JOIN numbered_jobs USING (chunk)
    GROUP BY numbered_jobs.id, chunks.problem_id
)
SELECT id FROM new_jobs ORDER BY id
