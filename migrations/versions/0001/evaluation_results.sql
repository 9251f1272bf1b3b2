-- A row per policy and evaluation; all metrics except the accuracies are also there while it is running.
CREATE VIEW evaluation_results AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    models.name AS model,
    coalesce(datasets.benchmark, datasets.name) AS benchmark,
    counted.problems,
    evaluations.samples,
    evaluations.accuracy,
    evaluations.standard_error,
    counted.accuracy_readable,
    counted.solved,
    counted.drawn,
    counted.correct,
    counted.without_verdict,
    counted.mean_tokens,
    counted.truncated_share,
    counted.unreadable,
    counted.left_out,
    evaluations.temperature,
    evaluations.top_p,
    evaluations.top_k,
    evaluations.min_p,
    evaluations.repetition_penalty,
    evaluations.max_new_tokens,
    rounds.evaluation_key AS measure,
    CASE WHEN evaluations.finished_at IS NULL THEN 'running' ELSE 'done' END AS state,
    evaluations.finished_at,
    rounds.id AS round_id
FROM evaluations
JOIN rounds ON rounds.id = evaluations.round_id
JOIN runs ON runs.id = rounds.run_id
JOIN datasets ON datasets.id = evaluations.dataset_id
LEFT JOIN models ON models.id = rounds.model_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS problems,
        count(*) FILTER (WHERE NOT reference_readable) AS unreadable,
        count(*) FILTER (WHERE reference_readable AND exclusion IS NOT NULL) AS left_out,
        CASE WHEN evaluations.finished_at IS NOT NULL
            THEN avg(coalesce(CAST(correct AS double precision) / nullif(drawn, 0), 0))
                FILTER (WHERE reference_readable)
        END AS accuracy_readable,
        count(*) FILTER (WHERE correct > 0) AS solved,
        CAST(sum(drawn) AS bigint) AS drawn,
        CAST(sum(correct) AS bigint) AS correct,
        CAST(sum(without_verdict) AS bigint) AS without_verdict,
        CAST(sum(tokens) AS double precision) / nullif(sum(counted_tokens), 0) AS mean_tokens,
        CAST(sum(truncated) AS double precision) / nullif(sum(ended), 0) AS truncated_share
    FROM (
        SELECT
            problems.reference_readable,
            round_problems.exclusion,
            count(samples.id) AS drawn,
            count(*) FILTER (WHERE samples.verdict = 'correct') AS correct,
            count(*) FILTER (WHERE samples.cause IS NOT NULL AND samples.verdict IS NULL) AS without_verdict,
            sum(samples.tokens) AS tokens,
            count(samples.tokens) AS counted_tokens,
            count(*) FILTER (WHERE samples.finish_reason = 'length') AS truncated,
            count(samples.finish_reason) AS ended
        FROM round_problems
        JOIN problems ON problems.id = round_problems.problem_id
        LEFT JOIN samples
            ON samples.round_id = round_problems.round_id AND samples.problem_id = round_problems.problem_id
        WHERE round_problems.round_id = evaluations.round_id
        GROUP BY problems.id, round_problems.exclusion
    ) AS per_problem
) AS counted;
