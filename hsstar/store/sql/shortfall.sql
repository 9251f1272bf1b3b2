-- What some problems of a round still lack, as counts of samples. Parameters: round_id, problem_ids.
WITH
drawn AS (
    SELECT
        problem_id,
        count(*) FILTER (WHERE slot < allotment) AS samples,
        count(*) FILTER (WHERE cause IS NULL) AS unverified,
        count(*) FILTER (WHERE min_reward IS NULL) AS unscored
    FROM round_problems
    JOIN samples USING (round_id, problem_id)
    WHERE round_id = :round_id AND exclusion IS NULL AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
    GROUP BY problem_id
)
SELECT
    coalesce(sum(allotment - coalesce(drawn.samples, 0)), 0) AS undrawn,
    coalesce(sum(unverified), 0) AS unverified,
    coalesce(sum(unscored), 0) AS unscored
FROM round_problems
LEFT JOIN drawn USING (problem_id)
WHERE round_id = :round_id AND exclusion IS NULL AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
