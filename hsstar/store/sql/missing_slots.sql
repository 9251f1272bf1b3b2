-- The slots of a sampling job that are not drawn yet, problem by problem, each with the prefix that it continues and its wave.
--
-- The prefix is empty but in a round of continuations. Parameters: job_id, round_id.
SELECT
    job_items.problem_id,
    problems.key AS problem_key,
    problems.statement,
    target.slot,
    coalesce(left(sample_responses.response, step_prefixes.characters), '') AS prefix,
    wave_of(:round_id, job_items.problem_id, target.slot) AS wave
FROM job_items
CROSS JOIN LATERAL unnest(job_items.slots) AS target (slot)
JOIN problems ON problems.id = job_items.problem_id
LEFT JOIN samples
    ON samples.round_id = :round_id
    AND samples.problem_id = job_items.problem_id
    AND samples.slot = target.slot
LEFT JOIN step_rounds ON step_rounds.round_id = :round_id
LEFT JOIN step_prefixes
    ON step_prefixes.round_id = :round_id
    AND step_prefixes.problem_id = job_items.problem_id
    AND step_prefixes.number = target.slot / step_rounds.continuations
LEFT JOIN sample_responses ON sample_responses.sample_id = step_prefixes.sample_id
WHERE job_items.job_id = :job_id AND samples.id IS NULL
ORDER BY job_items.problem_id, target.slot
