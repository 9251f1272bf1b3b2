-- Inserts step rewards, and writes their minimum on the sample's row; existing rewards stay.
--
-- Parameters: reward_model_id, and one array per column of `input`. Step rewards have different lengths, so each
-- list of them is the text of a Postgres array.
WITH
input AS (
    SELECT * FROM unnest(
        CAST(:ids AS bigint[]), CAST(:rewards AS text[]), CAST(:minima AS double precision[]),
        CAST(:truncated AS boolean[])
    ) AS input (sample_id, rewards, minimum, truncated)
),
written AS (
    INSERT INTO rewards (sample_id, reward_model_id, step_rewards, truncated)
    SELECT sample_id, :reward_model_id, CAST(rewards AS double precision[]), truncated
    FROM input
    ON CONFLICT DO NOTHING
    RETURNING sample_id
)
UPDATE samples
SET min_reward = input.minimum
FROM written
JOIN input USING (sample_id)
WHERE samples.id = written.sample_id
