-- The samples of an evaluation counted by problem, in the order of the round. Parameter: round_id.
SELECT
    problems.id AS problem_id,
    subject,
    level,
    reference_readable AS readable,
    exclusion,
    count(samples.id) AS drawn,
    count(*) FILTER (WHERE verdict = 'correct') AS correct,
    count(*) FILTER (WHERE samples.cause IS NOT NULL AND verdict IS NULL) AS without_verdict,
    coalesce(sum(tokens), 0) AS tokens,
    count(tokens) AS counted,
    count(*) FILTER (WHERE finish_reason = 'length') AS truncated,
    count(finish_reason) AS ended,
    CASE
        WHEN count(samples.cause) > 1 THEN coalesce(vote.correct, false)
        ELSE count(*) FILTER (WHERE verdict = 'correct') > 0
    END AS majority
FROM round_problems
JOIN problems ON problems.id = round_problems.problem_id
LEFT JOIN samples
    ON samples.round_id = round_problems.round_id AND samples.problem_id = round_problems.problem_id
LEFT JOIN majority_votes AS vote
    ON vote.round_id = round_problems.round_id AND vote.problem_id = round_problems.problem_id
WHERE round_problems.round_id = :round_id
GROUP BY problems.id, position, exclusion, vote.correct
ORDER BY position
