-- Inserts step rewards, writes their minimum on the sample's row, and counts them; existing rewards stay.
--
-- Parameters: worker, reward_model_id, and one array per column of `input`. Step rewards have different lengths, so each
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
),
scored AS (
    UPDATE samples
    SET min_reward = input.minimum
    FROM written
    JOIN input USING (sample_id)
    WHERE samples.id = written.sample_id
    RETURNING round_id
)
INSERT INTO sample_counts AS counts (round_id, worker, scored)
SELECT round_id, :worker, count(*) FROM scored GROUP BY round_id
ON CONFLICT (round_id, worker) DO UPDATE SET scored = counts.scored + excluded.scored
