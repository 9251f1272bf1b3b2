-- The counters of the samples, beside the samples.
SELECT kind, number, counted.*, present.*
FROM rounds
CROSS JOIN LATERAL (
    SELECT sum(drawn), sum(drawn_pre), sum(verified), sum(scored), sum(sample_counts.tokens)
    FROM sample_counts WHERE round_id = rounds.id
) AS counted
CROSS JOIN LATERAL (
    SELECT count(*), count(cause), count(min_reward), sum(samples.tokens) FROM samples WHERE round_id = rounds.id
) AS present
