-- The samples of two rounds at the same problems and slots, counted by problem.
--
-- Slots count that both have judged; a sample that the verifier could not decide is not correct.
-- Parameters: first, second (round ids).
SELECT
    problem_id,
    count(*) FILTER (WHERE one.verdict = 'correct' AND other.verdict = 'correct') AS both,
    count(*) FILTER (WHERE one.verdict = 'correct' AND other.verdict IS DISTINCT FROM 'correct') AS only_first,
    count(*) FILTER (WHERE one.verdict IS DISTINCT FROM 'correct' AND other.verdict = 'correct') AS only_second,
    count(*) FILTER (
        WHERE one.verdict IS DISTINCT FROM 'correct' AND other.verdict IS DISTINCT FROM 'correct'
    ) AS neither
FROM samples AS one
JOIN samples AS other USING (problem_id, slot)
WHERE one.round_id = :first AND other.round_id = :second AND one.cause IS NOT NULL AND other.cause IS NOT NULL
GROUP BY problem_id
ORDER BY problem_id
