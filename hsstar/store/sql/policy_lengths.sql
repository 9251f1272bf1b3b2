-- How long the responses of the policies of a run are, in tokens: a row per policy, M_0 first. Parameter: run.
--
-- Of its answers to the held-out problems, of its samples in an iteration by difficulty, of the two sides of the
-- preference pairs from them; and how much more probable (nats) the chosen responses became by the training on these.
WITH
policies AS (
    SELECT coalesce(runs.forked_at, 0) AS number, runs.model_id
    FROM runs
    WHERE runs.name = :run
    UNION ALL
    SELECT rounds.number + 1, iterations.output_model_id
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    JOIN iterations ON iterations.round_id = rounds.id
    WHERE runs.name = :run AND iterations.output_model_id IS NOT NULL
),
lengths AS (
    SELECT
        iteration,
        max(tokens) FILTER (WHERE difficulty = 'inlier') AS inlier,
        max(tokens) FILTER (WHERE difficulty = 'boundary') AS boundary,
        max(tokens) FILTER (WHERE difficulty = 'outlier') AS outlier,
        sum(tokens_chosen * pairs) / nullif(sum(pairs), 0) AS chosen,
        sum(tokens_rejected * pairs) / nullif(sum(pairs), 0) AS rejected
    FROM response_lengths
    WHERE run = :run
    GROUP BY iteration
)
SELECT
    policies.number AS policy,
    models.name AS model,
    (
        SELECT mean_tokens
        FROM evaluation_results
        WHERE run = :run AND measure = 'heldout' AND evaluation_results.model = models.name
        LIMIT 1
    ) AS held_out,
    CAST(nullif(iteration_statistics.tokens, 0) AS double precision) / iteration_statistics.drawn AS sampled,
    lengths.inlier,
    lengths.boundary,
    lengths.outlier,
    lengths.chosen,
    lengths.rejected,
    iteration_statistics.chosen_logp_change
FROM policies
JOIN models ON models.id = policies.model_id
LEFT JOIN lengths ON lengths.iteration = policies.number
LEFT JOIN iteration_statistics
    ON iteration_statistics.run = :run AND iteration_statistics.iteration = policies.number
ORDER BY policies.number
