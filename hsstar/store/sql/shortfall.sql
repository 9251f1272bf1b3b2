-- What a round still lacks, as counts. Parameter: round_id.
WITH
target AS (
    SELECT coalesce(sum(allotment), 0) AS samples
    FROM round_problems
    WHERE round_id = :round_id AND exclusion IS NULL
),
drawn AS (
    SELECT
        count(*) FILTER (WHERE slot < allotment) AS samples,
        count(*) FILTER (WHERE cause IS NULL) AS unverified,
        count(*) FILTER (WHERE min_reward IS NULL) AS unscored
    FROM samples
    JOIN round_problems USING (round_id, problem_id)
    WHERE round_id = :round_id AND exclusion IS NULL
),
assigned AS (
    SELECT
        count(*) FILTER (WHERE state IN ('queued', 'running')) AS live,
        count(*) FILTER (WHERE state = 'failed') AS failed
    FROM jobs
    WHERE round_id = :round_id AND state <> 'done'
)
SELECT live, failed, target.samples - drawn.samples AS undrawn, unverified, unscored
FROM target, drawn, assigned
