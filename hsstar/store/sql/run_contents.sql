-- What a run consists of, in numbers. Parameter: run_id.
WITH
own AS (
    SELECT id, kind FROM rounds WHERE run_id = :run_id
)
SELECT
    (SELECT count(*) FROM own WHERE kind = 'iteration') AS iterations,
    (SELECT count(*) FROM own WHERE kind = 'evaluation') AS evaluations,
    (SELECT CAST(coalesce(sum(drawn), 0) AS bigint) FROM sample_counts WHERE round_id IN (SELECT id FROM own)) AS samples,
    (SELECT count(*) FROM preference_pairs WHERE round_id IN (SELECT id FROM own)) AS pairs,
    (
        SELECT count(*) FROM jobs
        WHERE round_id IN (SELECT id FROM own) AND state IN ('queued', 'running')
    ) AS live_jobs
