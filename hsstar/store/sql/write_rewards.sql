-- Inserts the step rewards that a model gave to samples; existing ones stay.
--
-- Parameters: reward_model_id, and one array per column of `input`. Step rewards have different lengths, so each
-- list of them is the text of a Postgres array.
INSERT INTO rewards (sample_id, reward_model_id, step_rewards, truncated, step_spans)
SELECT sample_id, :reward_model_id, CAST(step_rewards AS double precision[]), truncated, CAST(step_spans AS integer[])
FROM unnest(
    CAST(:ids AS bigint[]), CAST(:rewards AS text[]), CAST(:truncated AS boolean[]), CAST(:spans AS text[])
) AS input (sample_id, step_rewards, truncated, step_spans)
ON CONFLICT DO NOTHING
