-- The problems of an iteration with the verdicts, texts and minimum rewards of their samples by slot.
--
-- Parameter: round_id.
WITH
drawn AS (
    SELECT
        problem_id,
        array_agg(verdict ORDER BY slot) AS verdicts,
        array_agg(text_hash ORDER BY slot) AS texts,
        array_agg(min_reward ORDER BY slot) AS rewards
    FROM samples
    WHERE round_id = :round_id
    GROUP BY problem_id
)
SELECT problems.key, difficulty_labels.level, verdicts, texts, rewards
FROM round_problems
JOIN problems ON problems.id = problem_id
JOIN drawn USING (problem_id)
LEFT JOIN difficulty_labels USING (round_id, problem_id)
WHERE round_id = :round_id AND exclusion IS NULL
ORDER BY problems.key
