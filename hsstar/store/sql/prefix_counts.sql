-- Every prefix of a round of continuations, and how many of these are correct and how many incorrect.
--
-- Parameter: round_id.
SELECT
    step_prefixes.problem_id,
    step_prefixes.sample_id,
    step_prefixes.characters,
    count(*) FILTER (WHERE samples.verdict = 'correct') AS correct,
    count(*) FILTER (WHERE samples.verdict = 'incorrect') AS incorrect
FROM step_prefixes
JOIN step_rounds ON step_rounds.round_id = step_prefixes.round_id
LEFT JOIN samples
    ON samples.round_id = :round_id
    AND samples.problem_id = step_prefixes.problem_id
    AND samples.slot >= step_prefixes.number * step_rounds.continuations
    AND samples.slot < (step_prefixes.number + 1) * step_rounds.continuations
WHERE step_prefixes.round_id = :round_id
GROUP BY step_prefixes.round_id, step_prefixes.problem_id, step_prefixes.number
ORDER BY step_prefixes.problem_id, step_prefixes.number
