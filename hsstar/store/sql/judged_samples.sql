-- The samples of some problems of a round with their verdicts in force, and what follows from these.
--
-- corrected: whether a person has judged it; null if it has had one verdict. Parameters: round_id, problem_ids.
SELECT
    samples.id,
    samples.problem_id,
    problems.key AS problem_key,
    samples.slot,
    problems.statement,
    problems.source_id,
    problems.reference_answer,
    sample_responses.response,
    coalesce(samples.finish_reason = 'length', false) AS truncated,
    samples.cause,
    samples.answer,
    coalesce(samples.pair_reward, samples.min_reward) AS pair_reward,
    samples.tokens,
    samples.text_hash,
    labels.level,
    labels.process_quality,
    history.corrected
FROM samples
JOIN problems ON problems.id = samples.problem_id
JOIN sample_responses ON sample_responses.sample_id = samples.id
LEFT JOIN difficulty_labels AS labels
    ON labels.round_id = samples.round_id AND labels.problem_id = samples.problem_id
CROSS JOIN LATERAL (
    SELECT bool_or(reason IS NOT NULL) AS corrected FROM verdicts WHERE sample_id = samples.id
) AS history
WHERE samples.round_id = :round_id AND samples.problem_id = ANY (CAST(:problem_ids AS bigint[]))
ORDER BY samples.problem_id, samples.slot
