-- The first responses of each problem of an iteration that have a verdict, in its order.
--
-- Parameters: round_id, responses (slots below it).
SELECT
    samples.problem_id,
    problems.key AS problem_key,
    problems.statement,
    samples.id AS sample_id,
    sample_responses.response,
    samples.verdict = 'correct' AS correct
FROM round_problems
JOIN problems ON problems.id = round_problems.problem_id
JOIN samples
    ON samples.round_id = :round_id
    AND samples.problem_id = round_problems.problem_id
    AND samples.slot < :responses
    AND samples.verdict IS NOT NULL
JOIN sample_responses ON sample_responses.sample_id = samples.id
WHERE round_problems.round_id = :round_id AND exclusion IS NULL
ORDER BY round_problems.position, samples.slot
