-- The slot at an address, with its wave and the prefix that it continues; the prefix is empty but in a round of continuations.
--
-- Parameters: round_id, problem_id, slot.
SELECT
    problems.id AS problem_id,
    problems.key AS problem_key,
    problems.statement,
    CAST(:slot AS int) AS slot,
    coalesce(left(sample_responses.response, step_prefixes.characters), '') AS prefix,
    wave_of(:round_id, problems.id, CAST(:slot AS int)) AS wave
FROM problems
LEFT JOIN step_rounds ON step_rounds.round_id = :round_id
LEFT JOIN step_prefixes
    ON step_prefixes.round_id = :round_id
    AND step_prefixes.problem_id = problems.id
    AND step_prefixes.number = :slot / step_rounds.continuations
LEFT JOIN sample_responses ON sample_responses.sample_id = step_prefixes.sample_id
WHERE problems.id = :problem_id
