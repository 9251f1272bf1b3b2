-- Enqueues what a round still lacks: missing = target − drawn − assigned.
--
-- One query serves the three kinds of work on samples. Parameters: round_id, kind (sample | verify |
-- score), problem_ids (only these problems; null for all), job_id (only the samples of this sampling job; null for
-- all), job_samples (samples per job). Returns the ids of the new jobs. A second run adds nothing. The caller holds
-- the run's lock, for one job's samples shared with others.
-- Sets are subtracted, not joined: the planner has no statistics of a round that is being filled, and a bad
-- join takes minutes where a subtraction always takes milliseconds.
WITH
target AS (
    SELECT problem_id, target_slot.slot
    FROM round_problems
    -- what a problem gets of the remaining budget counts when all have their share
    CROSS JOIN LATERAL generate_series(0, least(allotment, (
        SELECT pre_samples FROM iterations WHERE round_id = :round_id AND state = 'pre_sampling'
    )) - 1) AS target_slot (slot)
    WHERE :kind = 'sample'
      AND round_id = :round_id
      AND exclusion IS NULL
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
    UNION ALL
    SELECT problem_id, slot
    FROM samples
    WHERE (:kind = 'verify' AND cause IS NULL OR :kind = 'score' AND min_reward IS NULL)
      AND round_id = :round_id
      AND problem_id NOT IN (
          SELECT problem_id FROM round_problems
          WHERE round_id = :round_id
            AND exclusion IS NOT NULL
            AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
      )
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
      AND (CAST(:job_id AS bigint) IS NULL OR EXISTS (
          SELECT FROM job_items
          WHERE job_id = :job_id AND job_items.problem_id = samples.problem_id AND samples.slot = ANY (slots)
      ))
),
drawn AS (
    SELECT problem_id, slot
    FROM samples
    WHERE :kind = 'sample'
      AND round_id = :round_id
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
-- read by problem; joined with the jobs, the planner searches every job of the round for these problems
items_of_all AS MATERIALIZED (
    SELECT job_id, problem_id, slots
    FROM job_items
    WHERE CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[]))
),
-- a failed job keeps its items until it is retried, so that no other job draws a poisonous item again
assigned AS (
    SELECT items_of_all.problem_id, assigned_slot.slot
    FROM items_of_all
    JOIN jobs ON jobs.id = items_of_all.job_id
    CROSS JOIN LATERAL unnest(items_of_all.slots) AS assigned_slot (slot)
    WHERE jobs.round_id = :round_id AND jobs.kind = :kind AND jobs.state <> 'done'
),
missing AS (
    SELECT problem_id, slot FROM target
    EXCEPT
    SELECT problem_id, slot FROM drawn
    EXCEPT
    SELECT problem_id, slot FROM assigned
),
chunks AS (
    SELECT
        problem_id,
        slot,
        (row_number() OVER (ORDER BY problem_id, slot) - 1) / CAST(:job_samples AS bigint) + 1 AS chunk
    FROM missing
),
new_jobs AS (
    INSERT INTO jobs (round_id, kind)
    SELECT :round_id, :kind FROM generate_series(1, (SELECT max(chunk) FROM chunks))
    RETURNING id
),
numbered_jobs AS (
    SELECT array_agg(id ORDER BY id) AS ids FROM new_jobs
),
items AS (
    INSERT INTO job_items (job_id, problem_id, slots)
    SELECT ((SELECT ids FROM numbered_jobs))[chunk], problem_id, array_agg(slot ORDER BY slot)
    FROM chunks
    GROUP BY 1, 2
)
SELECT id FROM new_jobs ORDER BY id
