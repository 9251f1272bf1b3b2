-- Enqueues the votes that a completely verified evaluation lacks, as verification jobs.
--
-- The last verification job of a problem votes at its end, unless another one ends at the same time: this
-- finds what was missed. In its job a problem has one address, its first verified slot.
-- Parameters: round_id, job_samples (samples per job). Returns the number of votes that are missing, those of
-- failed jobs included. A discarded job has ended its vote: it counts as not correct.
-- The caller holds the run's lock; running it again adds nothing.
WITH
missing AS (
    SELECT samples.problem_id, min(samples.slot) AS slot
    FROM evaluations
    JOIN samples ON samples.round_id = evaluations.round_id AND samples.cause IS NOT NULL
    LEFT JOIN majority_votes AS vote
        ON vote.round_id = samples.round_id AND vote.problem_id = samples.problem_id
    WHERE evaluations.round_id = :round_id AND evaluations.samples > 1
    GROUP BY samples.problem_id, vote.ballot
    HAVING count(*) > 1
       AND vote.ballot IS DISTINCT FROM bit_xor(hashtextextended(concat_ws(' ', samples.slot, samples.verdict, samples.answer), 0))
),
assigned AS (
    SELECT job_items.problem_id, assigned_slot.slot, bool_or(jobs.state = 'discarded') AS discarded
    FROM jobs
    JOIN job_items ON job_items.job_id = jobs.id
    CROSS JOIN LATERAL unnest(job_items.slots) AS assigned_slot (slot)
    WHERE jobs.round_id = :round_id AND jobs.kind = 'verify' AND jobs.state <> 'done'
    GROUP BY 1, 2
),
votes AS (
    SELECT problem_id, slot, assigned.problem_id IS NOT NULL AS assigned
    FROM missing
    LEFT JOIN assigned USING (problem_id, slot)
    WHERE assigned.discarded IS NOT TRUE
),
chunks AS (
    SELECT problem_id, slot, (row_number() OVER (ORDER BY problem_id) - 1) / problems_per_job + 1 AS chunk
    FROM votes
    CROSS JOIN (
        SELECT greatest(CAST(:job_samples AS bigint) / samples, 1) AS problems_per_job
        FROM evaluations
        WHERE round_id = :round_id
    ) AS size
    WHERE NOT assigned
),
new_jobs AS (
    INSERT INTO jobs (round_id, kind)
    SELECT :round_id, 'verify' FROM generate_series(1, (SELECT max(chunk) FROM chunks))
    RETURNING id
),
numbered_jobs AS (
    SELECT array_agg(id ORDER BY id) AS ids FROM new_jobs
),
items AS (
    INSERT INTO job_items (job_id, problem_id, slots)
    SELECT ((SELECT ids FROM numbered_jobs))[chunk], problem_id, ARRAY[slot] FROM chunks
)
SELECT count(*) FROM votes
