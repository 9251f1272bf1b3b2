-- Writes the accuracy of a completely verified evaluation, and the standard error of the mean over problems.
--
-- The accuracy is the mean over problems of their own mean. A problem without samples counts as not solved. Without
-- problems both stay null. Parameter: round_id.
WITH
per_problem AS (
    SELECT avg(CASE WHEN verdict = 'correct' THEN 1.0 ELSE 0.0 END) AS accuracy
    FROM round_problems
    LEFT JOIN samples USING (round_id, problem_id)
    WHERE round_id = :round_id
    GROUP BY problem_id
),
overall AS (
    SELECT avg(accuracy) AS mean, coalesce(stddev_samp(accuracy), 0) / sqrt(count(*)) AS error
    FROM per_problem
    HAVING count(*) > 0
)
UPDATE evaluations
SET finished_at = now(), accuracy = mean, standard_error = error
FROM (SELECT 1) AS one
LEFT JOIN overall ON true
WHERE round_id = :round_id
