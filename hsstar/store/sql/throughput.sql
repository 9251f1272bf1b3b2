-- The throughput of earlier runs of one policy: lengths, yields and speeds.
--
-- Parameters: policy, engine, rewards (models), objective, as the planned recipe names them. Null without a row. Speeds are
-- response tokens per second in which a worker had such a job: the time of concurrent jobs of a worker counts once.
WITH
own AS (
    SELECT
        rounds.id AS round_id,
        CAST(runs.recipe->'training'->>'epochs' AS double precision) AS epochs,
        runs.recipe->'policy'->>'engine' = :engine AS same_engine,
        ARRAY(
            SELECT reward->>'model'
            FROM jsonb_array_elements(coalesce(nullif(runs.recipe->'rewards', '[]'), jsonb_build_array(runs.recipe->'reward'))) AS reward
            WHERE reward->>'model' <> 'none'
        ) = CAST(:rewards AS text[]) AS same_reward,
        runs.recipe->'training'->>'objective' = :objective AS same_objective
    FROM runs
    JOIN rounds ON rounds.run_id = runs.id
    JOIN iterations ON iterations.round_id = rounds.id
    WHERE runs.recipe->'policy'->>'model' = :policy AND iterations.state = 'done'
),
-- imported samples have no token count: their tokens were not drawn here
drawn AS (
    SELECT round_id, count(*) AS samples, count(tokens) AS counted, sum(tokens) AS tokens
    FROM samples
    JOIN own USING (round_id)
    GROUP BY round_id
),
paired AS (
    SELECT pairs.round_id, count(*) AS pairs, sum(chosen.tokens + rejected.tokens) AS tokens
    FROM preference_pairs AS pairs
    JOIN own USING (round_id)
    JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
    JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
    GROUP BY pairs.round_id
),
-- when a worker had a job of a kind, each moment once
busy AS (
    SELECT kind, range_agg(tstzrange(jobs.started_at, jobs.finished_at)) AS spans
    FROM jobs
    JOIN own USING (round_id)
    WHERE jobs.state = 'done'
      AND (kind <> 'sample' OR same_engine)
      AND (kind <> 'score' OR same_reward)
      AND (kind <> 'train' OR same_objective)
    GROUP BY kind, jobs.worker
),
worked AS (
    SELECT kind, CAST(sum(extract(epoch FROM upper(span) - lower(span))) AS double precision) AS seconds
    FROM busy
    CROSS JOIN LATERAL unnest(spans) AS times (span)
    GROUP BY kind
),
totals AS (
    SELECT
        sum(drawn.samples) FILTER (WHERE pairs > 0) AS samples_with_pairs,
        sum(drawn.counted) AS counted,
        sum(drawn.tokens) AS tokens,
        sum(paired.pairs) AS pairs,
        sum(drawn.tokens) FILTER (WHERE same_engine) AS sampled,
        sum(drawn.tokens) FILTER (WHERE same_reward) AS scored,
        sum(paired.tokens * epochs) FILTER (WHERE same_objective) AS trained
    FROM own
    JOIN drawn USING (round_id)
    LEFT JOIN paired USING (round_id)
)
SELECT
    CAST(tokens AS double precision) / nullif(counted, 0) AS tokens_per_sample,
    CAST(pairs AS double precision) / nullif(samples_with_pairs, 0) AS pairs_per_sample,
    sampled / nullif((SELECT seconds FROM worked WHERE kind = 'sample'), 0) AS sampling_speed,
    scored / nullif((SELECT seconds FROM worked WHERE kind = 'score'), 0) AS scoring_speed,
    trained / nullif((SELECT seconds FROM worked WHERE kind = 'train'), 0) AS training_speed
FROM totals
