-- A row per policy of a run and difficulty of the problems that it sampled: how long its responses are, in tokens.
CREATE VIEW response_lengths AS
WITH
sampled AS (
    SELECT
        samples.round_id,
        difficulty_labels.level,
        count(*) AS samples,
        avg(samples.tokens) AS tokens,
        avg(samples.tokens) FILTER (WHERE samples.verdict = 'correct') AS tokens_correct,
        avg(samples.tokens) FILTER (WHERE samples.verdict = 'incorrect') AS tokens_incorrect
    FROM samples
    JOIN difficulty_labels USING (round_id, problem_id)
    GROUP BY samples.round_id, difficulty_labels.level
),
paired AS (
    SELECT
        pairs.round_id,
        difficulty_labels.level,
        count(*) AS pairs,
        avg(chosen.tokens) AS tokens_chosen,
        avg(rejected.tokens) AS tokens_rejected
    FROM preference_pairs AS pairs
    JOIN difficulty_labels USING (round_id, problem_id)
    JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
    JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
    GROUP BY pairs.round_id, difficulty_labels.level
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    models.name AS model,
    sampled.level AS difficulty,
    sampled.samples,
    CAST(sampled.tokens AS double precision) AS tokens,
    CAST(sampled.tokens_correct AS double precision) AS tokens_correct,
    CAST(sampled.tokens_incorrect AS double precision) AS tokens_incorrect,
    coalesce(paired.pairs, 0) AS pairs,
    CAST(paired.tokens_chosen AS double precision) AS tokens_chosen,
    CAST(paired.tokens_rejected AS double precision) AS tokens_rejected
FROM sampled
JOIN rounds ON rounds.id = sampled.round_id
JOIN runs ON runs.id = rounds.run_id
LEFT JOIN models ON models.id = rounds.model_id
LEFT JOIN paired ON paired.round_id = sampled.round_id AND paired.level = sampled.level;
