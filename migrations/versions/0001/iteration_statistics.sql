-- A row per iteration: samples, difficulty levels, pairs, worker seconds, held-out accuracy.
CREATE VIEW iteration_statistics AS
WITH
sampled AS (
    SELECT
        round_id,
        sum(drawn) AS drawn,
        sum(drawn_pre) AS drawn_pre,
        sum(drawn) - sum(drawn_pre) AS drawn_re,
        sum(tokens) AS tokens,
        sum(verified) AS verified,
        sum(correct) AS correct,
        sum(cut) AS cut,
        sum(no_answer) AS no_answer,
        sum(cut_by_context) AS cut_by_context
    FROM sample_counts
    GROUP BY round_id
),
labelled AS (
    SELECT
        round_id,
        count(*) FILTER (WHERE level = 'inlier') AS inlier,
        count(*) FILTER (WHERE level = 'boundary') AS boundary,
        count(*) FILTER (WHERE level = 'outlier') AS outlier
    FROM difficulty_labels
    GROUP BY round_id
),
sliced AS (
    SELECT round_id, count(*) AS problems FROM round_problems GROUP BY round_id
),
paired AS (
    SELECT
        round_id,
        count(*) AS pairs,
        count(*) FILTER (WHERE NOT repeated) AS distinct_pairs,
        count(DISTINCT problem_id) AS problems_with_pair
    FROM preference_pairs
    GROUP BY round_id
),
-- the training that made the policy: what its last attempt says of all of it
trained AS (
    SELECT DISTINCT ON (round_id)
        id,
        round_id,
        round(cardinality(item_ids) * CAST(coalesce(settings ->> 'epochs', '1') AS numeric)) AS rows,
        steps_done,
        sampled_as,
        (
            SELECT avg(reward_chosen) / CAST(settings ->> 'beta' AS double precision)
            FROM training_steps
            WHERE training_run_id = training_runs.id AND step > 0.9 * training_runs.steps
        ) AS chosen_logp_change
    FROM training_runs
    WHERE finished_at IS NOT NULL
    ORDER BY round_id, id DESC
),
-- worker seconds: concurrent jobs count separately
worked AS (
    SELECT
        round_id,
        sum(extract(epoch FROM finished_at - started_at)) FILTER (WHERE kind = 'sample') AS sampling,
        sum(extract(epoch FROM finished_at - started_at)) FILTER (WHERE kind = 'verify') AS verification,
        sum(extract(epoch FROM finished_at - started_at)) FILTER (WHERE kind = 'score') AS reward,
        sum(extract(epoch FROM finished_at - started_at)) FILTER (WHERE kind = 'train') AS training,
        sum(extract(epoch FROM finished_at - started_at)) AS total
    FROM jobs
    WHERE state = 'done'
    GROUP BY round_id
),
held_out AS (
    SELECT rounds.run_id, rounds.model_id, evaluations.accuracy, evaluations.standard_error
    FROM evaluations
    JOIN rounds ON rounds.id = evaluations.round_id
    WHERE rounds.evaluation_key = 'heldout'
    UNION ALL
    SELECT runs.id, rounds.model_id, evaluations.accuracy, evaluations.standard_error
    FROM runs
    CROSS JOIN LATERAL rounds_of(runs.id) AS shared (id)
    JOIN rounds ON rounds.id = shared.id AND rounds.run_id <> runs.id
    JOIN evaluations ON evaluations.round_id = rounds.id
    WHERE runs.shares_evaluations AND rounds.evaluation_key = 'heldout'
),
-- on the held-out problems and on every benchmark
evaluated AS (
    SELECT rounds.run_id, rounds.model_id, sum(worked.total) AS total
    FROM rounds
    JOIN worked ON worked.round_id = rounds.id
    WHERE rounds.kind = 'evaluation'
    GROUP BY rounds.run_id, rounds.model_id
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    iterations.state,
    models.name AS model,
    coalesce(sliced.problems, 0) AS problems,
    iterations.budget,
    CAST(coalesce(sampled.drawn, 0) AS bigint) AS drawn,
    CAST(coalesce(sampled.drawn_pre, 0) AS bigint) AS drawn_pre,
    CAST(coalesce(sampled.drawn_re, 0) AS bigint) AS drawn_re,
    coalesce(labelled.inlier, 0) AS inlier,
    coalesce(labelled.boundary, 0) AS boundary,
    coalesce(labelled.outlier, 0) AS outlier,
    coalesce(paired.pairs, 0) AS pairs,
    CAST(coalesce(sampled.tokens, 0) AS bigint) AS tokens,
    round(coalesce(worked.sampling, 0), 3) AS seconds_sampling,
    round(coalesce(worked.verification, 0), 3) AS seconds_verification,
    round(coalesce(worked.reward, 0), 3) AS seconds_reward,
    round(coalesce(worked.training, 0), 3) AS seconds_training,
    round(coalesce(evaluated.total, 0), 3) AS seconds_evaluation,
    round(extract(epoch FROM coalesce(iterations.finished_at, now()) - iterations.started_at), 3) AS seconds,
    before.accuracy AS heldout_accuracy_before,
    before.standard_error AS heldout_error_before,
    after.accuracy AS heldout_accuracy_after,
    after.standard_error AS heldout_error_after,
    output_models.name AS output_model,
    iterations.started_at,
    iterations.finished_at,
    CAST(coalesce(sampled.correct, 0) AS bigint) AS correct,
    CAST(coalesce(sampled.cut, 0) AS bigint) AS cut,
    CAST(coalesce(sampled.no_answer, 0) AS bigint) AS no_answer,
    coalesce(paired.distinct_pairs, 0) AS distinct_pairs,
    coalesce(paired.problems_with_pair, 0) AS problems_with_pair,
    CAST(coalesce(trained.rows, 0) AS bigint) AS rows_trained,
    coalesce(trained.steps_done, 0) AS optimiser_steps,
    iterations.reward_quality,
    iterations.different_texts,
    trained.chosen_logp_change,
    trained.sampled_as,
    layer_updates.kept AS update_kept,
    CAST(coalesce(sampled.verified, 0) AS bigint) AS verified,
    CAST(coalesce(sampled.cut_by_context, 0) AS bigint) AS cut_by_context,
    CAST(sampled.correct AS double precision) / nullif(sampled.verified, 0) AS correct_share,
    CAST(sampled.cut AS double precision) / nullif(sampled.drawn, 0) AS cut_share,
    CAST(sampled.no_answer AS double precision) / nullif(sampled.verified, 0) AS no_answer_share,
    models.context
FROM iterations
JOIN rounds ON rounds.id = iterations.round_id
JOIN runs ON runs.id = rounds.run_id
LEFT JOIN models ON models.id = rounds.model_id
LEFT JOIN models AS output_models ON output_models.id = iterations.output_model_id
LEFT JOIN sliced ON sliced.round_id = rounds.id
LEFT JOIN sampled ON sampled.round_id = rounds.id
LEFT JOIN labelled ON labelled.round_id = rounds.id
LEFT JOIN paired ON paired.round_id = rounds.id
LEFT JOIN worked ON worked.round_id = rounds.id
LEFT JOIN trained ON trained.round_id = rounds.id
LEFT JOIN layer_updates
    ON layer_updates.training_run_id = trained.id
    AND layer_updates.layer = 'all'
    AND layer_updates.format = trained.sampled_as
LEFT JOIN held_out AS before ON before.run_id = runs.id AND before.model_id = rounds.model_id
LEFT JOIN held_out AS after ON after.run_id = runs.id AND after.model_id = iterations.output_model_id
LEFT JOIN evaluated ON evaluated.run_id = runs.id AND evaluated.model_id = iterations.output_model_id;
