-- Discards the failed jobs of a run; returns them, a row per problem that they hold.
--
-- Parameters: run_id, before (the job states that may become discarded).
WITH
discarded AS (
    UPDATE jobs
    SET state = 'discarded'
    FROM rounds
    WHERE rounds.id = jobs.round_id AND rounds.run_id = :run_id AND jobs.state = ANY (:before)
    RETURNING jobs.id, jobs.round_id, jobs.error
)
SELECT discarded.id, round_id, error, problem_id
FROM discarded
LEFT JOIN job_items ON job_items.job_id = discarded.id
