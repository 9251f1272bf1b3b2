-- The public SQL interface (docs/sql.md). `run` is the run's name, `iteration` its number from 0.

CREATE VIEW sample_facts AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    CASE WHEN samples.slot < iterations.pre_samples THEN 'pre' ELSE 're' END AS phase,
    difficulty_labels.level AS difficulty,
    samples.verdict,
    samples.cause,
    samples.min_reward,
    samples.tokens,
    samples.finish_reason,
    models.name AS model,
    samples.worker,
    samples.created_at
FROM samples
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
LEFT JOIN models ON models.id = samples.model_id
LEFT JOIN difficulty_labels USING (round_id, problem_id);

-- Samples are counted problem by problem over their key: only those of the rounds that are asked for.
CREATE VIEW remaining_budget AS
WITH
-- slots of queued or running sampling jobs that are not drawn yet
in_flight AS (
    SELECT jobs.round_id, job_items.problem_id, count(*) AS in_flight
    FROM jobs
    JOIN job_items ON job_items.job_id = jobs.id
    CROSS JOIN LATERAL unnest(job_items.slots) AS held (slot)
    LEFT JOIN samples
        ON samples.round_id = jobs.round_id
        AND samples.problem_id = job_items.problem_id
        AND samples.slot = held.slot
    WHERE jobs.kind = 'sample' AND jobs.state IN ('queued', 'running') AND samples.id IS NULL
    GROUP BY jobs.round_id, job_items.problem_id
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    round_problems.problem_id,
    round_problems.allotment,
    counted.drawn,
    coalesce(in_flight.in_flight, 0) AS in_flight,
    CASE WHEN round_problems.exclusion IS NULL
        THEN greatest(round_problems.allotment - counted.drawn - coalesce(in_flight.in_flight, 0), 0)
        ELSE 0
    END AS remaining
FROM round_problems
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = round_problems.round_id
JOIN runs ON runs.id = rounds.run_id
CROSS JOIN LATERAL (
    SELECT count(*) AS drawn
    FROM samples
    WHERE samples.round_id = round_problems.round_id AND samples.problem_id = round_problems.problem_id
) AS counted
LEFT JOIN in_flight USING (round_id, problem_id);

CREATE VIEW problem_statistics AS
SELECT
    remaining_budget.run,
    remaining_budget.iteration,
    remaining_budget.problem_id,
    remaining_budget.drawn,
    sampled.correct,
    sampled.accuracy,
    sampled.process_quality,
    difficulty_labels.level AS difficulty,
    remaining_budget.allotment,
    remaining_budget.in_flight,
    paired.pairs
FROM remaining_budget
JOIN runs ON runs.name = remaining_budget.run
JOIN rounds
    ON rounds.run_id = runs.id
    AND rounds.kind = 'iteration'
    AND rounds.number = remaining_budget.iteration
JOIN iterations ON iterations.round_id = rounds.id
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        CAST(count(*) FILTER (WHERE verdict = 'correct' AND slot < pre_samples) AS double precision)
            / nullif(count(cause) FILTER (WHERE slot < pre_samples), 0) AS accuracy,
        avg(min_reward) FILTER (WHERE slot < pre_samples) AS process_quality
    FROM samples
    WHERE samples.round_id = rounds.id AND samples.problem_id = remaining_budget.problem_id
) AS sampled
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs
    FROM preference_pairs
    WHERE preference_pairs.round_id = rounds.id AND preference_pairs.problem_id = remaining_budget.problem_id
) AS paired
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = rounds.id AND difficulty_labels.problem_id = remaining_budget.problem_id;

CREATE VIEW iteration_statistics AS
WITH
sampled AS (
    SELECT
        samples.round_id,
        count(*) AS drawn,
        count(*) FILTER (WHERE slot < pre_samples) AS drawn_pre,
        count(*) FILTER (WHERE slot >= pre_samples) AS drawn_re,
        sum(tokens) AS tokens
    FROM samples
    JOIN iterations USING (round_id)
    GROUP BY samples.round_id
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
    SELECT round_id, count(*) AS pairs FROM preference_pairs GROUP BY round_id
),
-- worker seconds: jobs that run beside each other count each
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
evaluated AS (
    SELECT rounds.run_id, rounds.model_id, rounds.id AS round_id, evaluations.accuracy, evaluations.standard_error
    FROM evaluations
    JOIN rounds ON rounds.id = evaluations.round_id
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    iterations.state,
    models.name AS model,
    coalesce(sliced.problems, 0) AS problems,
    iterations.budget,
    coalesce(sampled.drawn, 0) AS drawn,
    coalesce(sampled.drawn_pre, 0) AS drawn_pre,
    coalesce(sampled.drawn_re, 0) AS drawn_re,
    coalesce(labelled.inlier, 0) AS inlier,
    coalesce(labelled.boundary, 0) AS boundary,
    coalesce(labelled.outlier, 0) AS outlier,
    coalesce(paired.pairs, 0) AS pairs,
    coalesce(sampled.tokens, 0) AS tokens,
    round(coalesce(worked.sampling, 0), 3) AS seconds_sampling,
    round(coalesce(worked.verification, 0), 3) AS seconds_verification,
    round(coalesce(worked.reward, 0), 3) AS seconds_reward,
    round(coalesce(worked.training, 0), 3) AS seconds_training,
    round(coalesce(evaluation_work.total, 0), 3) AS seconds_evaluation,
    round(extract(epoch FROM coalesce(iterations.finished_at, now()) - iterations.started_at), 3) AS seconds,
    before.accuracy AS heldout_accuracy_before,
    before.standard_error AS heldout_error_before,
    after.accuracy AS heldout_accuracy_after,
    after.standard_error AS heldout_error_after,
    output_models.name AS output_model,
    iterations.started_at,
    iterations.finished_at
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
LEFT JOIN evaluated AS before ON before.run_id = runs.id AND before.model_id = rounds.model_id
LEFT JOIN evaluated AS after ON after.run_id = runs.id AND after.model_id = iterations.output_model_id
LEFT JOIN worked AS evaluation_work ON evaluation_work.round_id = after.round_id;

CREATE VIEW worker_activity AS
SELECT
    workers.name AS worker,
    workers.host,
    workers.role,
    CASE
        WHEN workers.state <> 'stopped' AND workers.last_heartbeat < now() - interval '1 minute' THEN 'lost'
        WHEN workers.state <> 'stopped' AND current_job.id IS NOT NULL THEN 'busy'
        ELSE workers.state
    END AS state,
    current_job.id AS job,
    current_job.kind AS job_kind,
    current_job.started_at AS since,
    workers.jobs_done,
    workers.last_heartbeat
FROM workers
LEFT JOIN LATERAL (
    SELECT id, kind, started_at
    FROM jobs
    WHERE jobs.worker = workers.name AND jobs.state = 'running'
    ORDER BY started_at
    LIMIT 1
) AS current_job ON true;
