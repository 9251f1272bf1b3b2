-- What some problems of a round still lack, as counts of samples. Parameters: round_id, problem_ids.
WITH
target AS (
    -- what a problem gets of the remaining budget counts when all have their share
    SELECT problem_id, least(allotment, (
        SELECT pre_samples FROM iterations WHERE round_id = :round_id AND state = 'pre_sampling'
    )) AS slots
    FROM round_problems
    WHERE round_id = :round_id AND exclusion IS NULL AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
),
drawn AS (
    SELECT
        problem_id,
        count(*) FILTER (WHERE slot < slots) AS samples,
        count(*) FILTER (WHERE cause IS NULL) AS unverified,
        count(*) FILTER (WHERE min_reward IS NULL) AS unscored
    FROM target
    JOIN samples USING (problem_id)
    WHERE round_id = :round_id AND problem_id = ANY (CAST(:problem_ids AS bigint[]))  -- in one search of the index
    GROUP BY problem_id
)
SELECT
    coalesce(sum(slots - coalesce(drawn.samples, 0)), 0) AS undrawn,
    coalesce(sum(unverified), 0) AS unverified,
    coalesce(sum(unscored), 0) AS unscored
FROM target
LEFT JOIN drawn USING (problem_id)
