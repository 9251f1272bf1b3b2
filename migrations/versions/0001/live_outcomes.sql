-- A row per problem of a round, for hsstar's own queries: what its samples came to, counted problem by problem.
--
-- A reward says that a response is right from 0.5 on.
CREATE VIEW live_outcomes AS
SELECT
    assigned.round_id,
    assigned.problem_id,
    CAST(sampled.drawn AS integer) AS drawn,
    CAST(sampled.correct AS integer) AS correct,
    CAST(sampled.undecided AS integer) AS undecided,
    CAST(sampled.overrated AS integer) AS overrated,
    CAST(sampled.underrated AS integer) AS underrated,
    CAST(sampled.cut AS integer) AS cut,
    sampled.causes,
    sampled.mean_tokens,
    sampled.mean_reward,
    CAST(paired.pairs AS integer) AS pairs,
    labels.level AS difficulty,
    labels.accuracy,
    labels.process_quality
FROM round_problems AS assigned
CROSS JOIN LATERAL (
    SELECT
        count(*) AS drawn,
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        count(*) FILTER (WHERE verdict IS NULL) AS undecided,
        count(*) FILTER (WHERE verdict = 'incorrect' AND min_reward >= 0.5) AS overrated,
        count(*) FILTER (WHERE verdict = 'correct' AND min_reward < 0.5) AS underrated,
        count(*) FILTER (WHERE finish_reason = 'length') AS cut,
        coalesce(array_agg(DISTINCT cause) FILTER (WHERE cause IS NOT NULL), '{}') AS causes,
        CAST(avg(tokens) AS double precision) AS mean_tokens,
        avg(min_reward ORDER BY slot) AS mean_reward
    FROM samples
    WHERE samples.round_id = assigned.round_id AND samples.problem_id = assigned.problem_id
) AS sampled
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs
    FROM preference_pairs
    WHERE preference_pairs.round_id = assigned.round_id AND preference_pairs.problem_id = assigned.problem_id
) AS paired
LEFT JOIN difficulty_labels AS labels
    ON labels.round_id = assigned.round_id AND labels.problem_id = assigned.problem_id;
