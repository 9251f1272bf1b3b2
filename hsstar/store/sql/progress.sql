-- The progress of every round of a run, one row a round. Parameter: run_id.
WITH
of_run AS (
    SELECT
        rounds.id,
        rounds.kind,
        rounds.number,
        round_states.state,
        models.name AS model,
        models.context,
        output_models.name AS output_model,
        iterations.started_at,
        iterations.finished_at,
        iterations.budget,
        evaluations.accuracy,
        evaluations.standard_error,
        rounds.evaluation_key
    FROM rounds
    JOIN round_states ON round_states.round_id = rounds.id
    LEFT JOIN iterations ON iterations.round_id = rounds.id
    LEFT JOIN evaluations ON evaluations.round_id = rounds.id
    LEFT JOIN models ON models.id = rounds.model_id
    LEFT JOIN models AS output_models ON output_models.id = iterations.output_model_id
    WHERE rounds.run_id = :run_id
),
sliced AS (
    SELECT
        round_id,
        count(*) AS problems,
        count(exclusion) AS excluded,
        sum(allotment) FILTER (WHERE exclusion IS NULL) AS allotted
    FROM round_problems
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
sampled AS (
    SELECT
        round_id,
        CAST(sum(drawn) AS bigint) AS drawn,
        CAST(sum(verified) AS bigint) AS verified,
        CAST(sum(scored) AS bigint) AS scored,
        CAST(sum(correct) AS bigint) AS correct,
        CAST(sum(cut) AS bigint) AS cut,
        CAST(sum(cut_by_context) AS bigint) AS cut_by_context,
        CAST(sum(no_answer) AS bigint) AS no_answer,
        CAST(sum(tokens) AS double precision) / nullif(sum(drawn), 0) AS mean_tokens
    FROM sample_counts
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
labelled AS (
    SELECT
        round_id,
        count(*) FILTER (WHERE level = 'inlier') AS inlier,
        count(*) FILTER (WHERE level = 'boundary') AS boundary,
        count(*) FILTER (WHERE level = 'outlier') AS outlier
    FROM difficulty_labels
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
paired AS (
    SELECT
        round_id,
        count(*) AS pairs,
        count(*) FILTER (WHERE NOT repeated) AS distinct_pairs,
        count(DISTINCT problem_id) AS problems_with_pair
    FROM preference_pairs
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
given AS (
    SELECT round_id, count(decided_at) AS waves
    FROM allocation_waves
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
queued AS (
    SELECT
        round_id,
        count(*) FILTER (WHERE state = 'queued') AS queued,
        count(*) FILTER (WHERE state = 'running') AS running,
        count(*) FILTER (WHERE state = 'failed') AS failed,
        min(started_at) AS first_start,
        CASE WHEN bool_and(finished_at IS NOT NULL) THEN max(finished_at) END AS last_end
    FROM jobs
    WHERE round_id IN (SELECT id FROM of_run)
    GROUP BY round_id
),
-- slots of sampling jobs without a sample
undrawn AS (
    SELECT
        round_id,
        sum(slots - drawn) FILTER (WHERE state IN ('queued', 'running')) AS in_flight,
        sum(slots - drawn) FILTER (WHERE state = 'failed') AS failed
    FROM (
        SELECT jobs.round_id, jobs.state, jobs.drawn, sum(cardinality(job_items.slots)) AS slots
        FROM jobs
        JOIN job_items ON job_items.job_id = jobs.id
        WHERE jobs.round_id IN (SELECT id FROM of_run) AND jobs.kind = 'sample' AND jobs.state <> 'done'
        GROUP BY jobs.id
    ) AS held
    GROUP BY round_id
),
trained AS (
    SELECT DISTINCT ON (round_id)
        round_id,
        steps_done,
        steps,
        CASE WHEN finished_at IS NOT NULL
            THEN round(cardinality(item_ids) * CAST(coalesce(settings ->> 'epochs', '1') AS numeric))
        END AS rows
    FROM training_runs
    WHERE round_id IN (SELECT id FROM of_run)
    ORDER BY round_id, id DESC
)
SELECT
    of_run.kind,
    of_run.number,
    of_run.state,
    of_run.model,
    of_run.context,
    of_run.output_model,
    coalesce(sliced.problems, 0) AS problems,
    coalesce(sliced.excluded, 0) AS excluded,
    coalesce(of_run.budget, sliced.allotted, 0) AS budget,
    coalesce(sliced.allotted, 0) AS allotted,
    coalesce(sampled.drawn, 0) AS drawn,
    coalesce(sampled.verified, 0) AS verified,
    coalesce(sampled.scored, 0) AS scored,
    coalesce(sampled.correct, 0) AS correct,
    coalesce(sampled.cut, 0) AS cut,
    coalesce(sampled.cut_by_context, 0) AS cut_by_context,
    coalesce(sampled.no_answer, 0) AS no_answer,
    nullif(sampled.mean_tokens, 0) AS mean_tokens,
    coalesce(given.waves, 0) AS waves,
    coalesce(labelled.inlier, 0) AS inlier,
    coalesce(labelled.boundary, 0) AS boundary,
    coalesce(labelled.outlier, 0) AS outlier,
    coalesce(paired.pairs, 0) AS pairs,
    coalesce(paired.distinct_pairs, 0) AS distinct_pairs,
    coalesce(paired.problems_with_pair, 0) AS problems_with_pair,
    coalesce(queued.queued, 0) AS queued,
    coalesce(queued.running, 0) AS running,
    coalesce(queued.failed, 0) AS failed,
    CAST(coalesce(undrawn.in_flight, 0) AS bigint) AS slots_in_flight,
    CAST(coalesce(undrawn.failed, 0) AS bigint) AS failed_slots,
    coalesce(trained.steps_done, 0) AS training_steps_done,
    trained.steps AS training_steps,
    CAST(coalesce(trained.rows, 0) AS bigint) AS rows_trained,
    coalesce(of_run.started_at, queued.first_start) AS started_at,
    CAST(extract(epoch FROM
        coalesce(of_run.finished_at, queued.last_end, now()) - coalesce(of_run.started_at, queued.first_start)
    ) AS double precision) AS seconds,
    of_run.accuracy,
    of_run.standard_error,
    of_run.evaluation_key
FROM of_run
LEFT JOIN sliced ON sliced.round_id = of_run.id
LEFT JOIN sampled ON sampled.round_id = of_run.id
LEFT JOIN labelled ON labelled.round_id = of_run.id
LEFT JOIN paired ON paired.round_id = of_run.id
LEFT JOIN given ON given.round_id = of_run.id
LEFT JOIN queued ON queued.round_id = of_run.id
LEFT JOIN undrawn ON undrawn.round_id = of_run.id
LEFT JOIN trained ON trained.round_id = of_run.id
ORDER BY of_run.kind = 'steps', of_run.kind = 'source', of_run.kind DESC, of_run.number, of_run.evaluation_key
