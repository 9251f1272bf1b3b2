-- Writes what all rewards of a sample come to on its row, and counts the sample; one that lacks a reward waits.
--
-- Twin of `combine` in domain/rewards.py. Parameters: run_id, worker, ids (of samples). A second run changes nothing.
WITH
needed AS (
    SELECT * FROM run_rewards WHERE run_id = :run_id AND in_force
),
given AS (
    SELECT
        rewards.sample_id,
        needed.place,
        needed.weight,
        needed.use IN ('difficulty', 'both') AS labels,
        needed.use IN ('pairs', 'both') AS ranks,
        needed.weight * reward_of(rewards.step_rewards, needed.aggregation) AS weighted
    FROM rewards
    JOIN needed USING (reward_model_id)
    WHERE rewards.sample_id = ANY (CAST(:ids AS bigint[]))
),
-- summed in order, because the last bit of a float sum depends on it
combined AS (
    SELECT
        sample_id,
        coalesce(
            sum(weighted ORDER BY place) FILTER (WHERE labels) / sum(weight ORDER BY place) FILTER (WHERE labels),
            sum(weighted ORDER BY place) FILTER (WHERE ranks) / sum(weight ORDER BY place) FILTER (WHERE ranks),
            sum(weighted ORDER BY place) / sum(weight ORDER BY place)
        ) AS difficulty,
        sum(weighted ORDER BY place) FILTER (WHERE ranks) / sum(weight ORDER BY place) FILTER (WHERE ranks) AS pairs
    FROM given
    GROUP BY sample_id
    HAVING count(*) = (SELECT count(*) FROM needed)
),
scored AS (
    UPDATE samples
    SET min_reward = combined.difficulty, pair_reward = nullif(combined.pairs, combined.difficulty)
    FROM combined
    WHERE samples.id = combined.sample_id AND samples.min_reward IS NULL
    RETURNING round_id
)
INSERT INTO sample_counts AS counts (round_id, worker, scored)
SELECT round_id, :worker, count(*) FROM scored GROUP BY round_id
ON CONFLICT (round_id, worker) DO UPDATE SET scored = counts.scored + excluded.scored
