-- Counts the samples of some rounds again, as rows of `sample_counts`. Parameter: round_ids.
WITH
limits AS MATERIALIZED (
    SELECT id AS round_id, token_limit(id) AS most FROM rounds WHERE id = ANY (CAST(:round_ids AS bigint[]))
)
INSERT INTO sample_counts (
    round_id, worker, drawn, drawn_pre, tokens, verified, scored, correct, cut, no_answer, cut_by_context
)
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
    count(*) FILTER (WHERE cause = 'no_answer'),
    count(*) FILTER (WHERE finish_reason = 'length' AND tokens < most)
FROM samples
JOIN limits USING (round_id)
LEFT JOIN iterations USING (round_id)
GROUP BY 1, 2
