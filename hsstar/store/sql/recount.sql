-- Counts the samples of some rounds again, as rows of `sample_counts`. Parameter: round_ids.
INSERT INTO sample_counts (round_id, worker, drawn, drawn_pre, tokens, verified, scored, correct, cut, no_answer)
SELECT
    round_id,
    coalesce(worker, ''),
    count(*),
    count(*) FILTER (WHERE slot < pre_samples),
    coalesce(sum(tokens), 0),
    count(cause),
    count(min_reward),
    count(*) FILTER (WHERE verdict = 'correct'),
    count(*) FILTER (WHERE finish_reason = 'length'),
    count(*) FILTER (WHERE cause = 'no_answer')
FROM samples
LEFT JOIN iterations USING (round_id)
WHERE round_id = ANY (CAST(:round_ids AS bigint[]))
GROUP BY 1, 2
