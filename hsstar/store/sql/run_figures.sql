-- What a list shows of each run: the newest iteration that has begun, how long its iterations take, its accuracies.
--
-- No parameters. Accuracies are those on the held-out problems, else the mean of
-- the benchmarks.
WITH
newest AS (
    SELECT DISTINCT ON (rounds.run_id)
        rounds.run_id,
        rounds.id AS round_id,
        rounds.number,
        models.name AS model,
        models.context,
        output_models.name AS output_model,
        iterations.state,
        iterations.budget,
        iterations.started_at
    FROM iterations
    JOIN rounds ON rounds.id = iterations.round_id
    LEFT JOIN models ON models.id = rounds.model_id
    LEFT JOIN models AS output_models ON output_models.id = iterations.output_model_id
    WHERE iterations.started_at IS NOT NULL
    ORDER BY rounds.run_id, rounds.number DESC
),
sampled AS (
    SELECT
        round_id,
        CAST(sum(drawn) AS bigint) AS drawn,
        CAST(sum(verified) AS bigint) AS verified,
        CAST(sum(correct) AS bigint) AS correct,
        CAST(sum(cut) AS bigint) AS cut,
        CAST(sum(cut_by_context) AS bigint) AS cut_by_context,
        CAST(sum(no_answer) AS bigint) AS no_answer
    FROM sample_counts
    WHERE round_id IN (SELECT round_id FROM newest)
    GROUP BY round_id
),
trained AS (
    SELECT DISTINCT ON (round_id) round_id, steps_done, steps, started_at
    FROM training_runs
    WHERE round_id IN (SELECT round_id FROM newest)
    ORDER BY round_id, id DESC
),
lasted AS (
    SELECT
        rounds.run_id,
        CAST(avg(extract(epoch FROM finished_at - started_at)) AS double precision) AS seconds
    FROM iterations
    JOIN rounds ON rounds.id = iterations.round_id
    WHERE finished_at IS NOT NULL
    GROUP BY rounds.run_id
),
measured AS (
    SELECT
        rounds.run_id,
        rounds.number,
        coalesce(max(accuracy) FILTER (WHERE rounds.evaluation_key = 'heldout'), avg(accuracy)) AS accuracy
    FROM evaluations
    JOIN rounds ON rounds.id = evaluations.round_id
    WHERE accuracy IS NOT NULL
    GROUP BY rounds.run_id, rounds.number
),
lines AS (
    SELECT run_id, array_agg(accuracy ORDER BY number) AS accuracies
    FROM measured
    GROUP BY run_id
)
SELECT
    runs.name AS run,
    newest.number,
    newest.model,
    newest.context,
    newest.output_model,
    coalesce(newest.state, 'waiting') AS state,
    newest.started_at,
    coalesce(newest.budget, 0) AS budget,
    coalesce(sampled.drawn, 0) AS drawn,
    coalesce(sampled.verified, 0) AS verified,
    coalesce(sampled.correct, 0) AS correct,
    coalesce(sampled.cut, 0) AS cut,
    coalesce(sampled.cut_by_context, 0) AS cut_by_context,
    coalesce(sampled.no_answer, 0) AS no_answer,
    (SELECT count(*) FROM preference_pairs WHERE round_id = newest.round_id) AS pairs,
    coalesce(trained.steps_done, 0) AS training_steps_done,
    trained.steps AS training_steps,
    trained.started_at AS training_started_at,
    lasted.seconds AS seconds_per_iteration,
    coalesce(lines.accuracies, CAST('{}' AS double precision[])) AS accuracies
FROM runs
LEFT JOIN newest ON newest.run_id = runs.id
LEFT JOIN sampled ON sampled.round_id = newest.round_id
LEFT JOIN trained ON trained.round_id = newest.round_id
LEFT JOIN lasted ON lasted.run_id = runs.id
LEFT JOIN lines ON lines.run_id = runs.id
ORDER BY runs.id
