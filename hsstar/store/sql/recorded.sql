-- The problems of an iteration with the verdicts and texts of their samples by slot. Parameter: round_id.
WITH
drawn AS (
    SELECT
        problem_id,
        array_agg(verdict ORDER BY slot) AS verdicts,
        array_agg(md5(response) ORDER BY slot) AS texts
    FROM samples
    JOIN sample_responses ON sample_id = samples.id
    WHERE round_id = :round_id
    GROUP BY problem_id
)
SELECT problems.key, level, verdicts, texts
FROM round_problems
JOIN problems ON problems.id = problem_id
JOIN drawn USING (problem_id)
LEFT JOIN difficulty_labels USING (round_id, problem_id)
WHERE round_id = :round_id AND exclusion IS NULL
ORDER BY problems.key
