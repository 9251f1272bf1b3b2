-- The very slots, verdicts, rewards and trainings that a run still lacks, and what holds each of them.
--
-- Parameter: run_id. One row per round, problem, kind of work and holding job; job is null where the next
-- sweep enqueues the work. What was discarded stays in the list, also of rounds that are done.
WITH
rounds_of_run AS (
    SELECT
        rounds.id,
        rounds.kind,
        rounds.number,
        coalesce(iterations.state, CASE WHEN evaluations.finished_at IS NULL THEN 'running' ELSE 'done' END)
            AS state,
        rounds.kind = 'iteration' AND runs.reward_model_id IS NOT NULL AS scored
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    LEFT JOIN iterations ON iterations.round_id = rounds.id
    LEFT JOIN evaluations ON evaluations.round_id = rounds.id
    WHERE rounds.run_id = :run_id
),
addresses AS (
    SELECT
        round_problems.round_id,
        round_problems.problem_id,
        address.slot,
        samples.id IS NOT NULL AS drawn,
        samples.cause IS NOT NULL AS verified,
        samples.min_reward IS NOT NULL OR NOT rounds_of_run.scored AS scored,
        rounds_of_run.state <> 'done' AND round_problems.exclusion IS NULL AS wanted
    FROM round_problems
    JOIN rounds_of_run ON rounds_of_run.id = round_problems.round_id
    CROSS JOIN LATERAL generate_series(0, round_problems.allotment - 1) AS address (slot)
    LEFT JOIN samples
        ON samples.round_id = round_problems.round_id
        AND samples.problem_id = round_problems.problem_id
        AND samples.slot = address.slot
),
-- a verdict or reward lacks only once its sample is there
lacking AS (
    SELECT round_id, problem_id, slot, wanted, 'sample' AS kind FROM addresses WHERE NOT drawn
    UNION ALL
    SELECT round_id, problem_id, slot, wanted, 'verify' FROM addresses WHERE drawn AND NOT verified
    UNION ALL
    SELECT round_id, problem_id, slot, wanted, 'score' FROM addresses WHERE drawn AND NOT scored
    UNION ALL
    SELECT id, NULL, NULL, true, 'train' FROM rounds_of_run WHERE kind = 'iteration' AND state = 'training'
),
holding AS (
    SELECT jobs.id, jobs.round_id, jobs.kind, jobs.state, jobs.worker, jobs.error, job_items.problem_id, held.slot
    FROM jobs
    LEFT JOIN job_items ON job_items.job_id = jobs.id
    LEFT JOIN LATERAL unnest(job_items.slots) AS held (slot) ON true
    WHERE jobs.state <> 'done' AND jobs.round_id IN (SELECT id FROM rounds_of_run)
)
SELECT
    rounds_of_run.kind AS round_kind,
    rounds_of_run.number,
    lacking.problem_id,
    lacking.kind,
    array_remove(array_agg(lacking.slot ORDER BY lacking.slot), NULL) AS slots,
    holding.id AS job,
    holding.state,
    CASE WHEN holding.state = 'running' THEN holding.worker END AS worker,
    holding.error
FROM lacking
JOIN rounds_of_run ON rounds_of_run.id = lacking.round_id
LEFT JOIN holding
    ON holding.round_id = lacking.round_id
    AND holding.kind = lacking.kind
    AND holding.problem_id IS NOT DISTINCT FROM lacking.problem_id
    AND holding.slot IS NOT DISTINCT FROM lacking.slot
WHERE lacking.wanted OR holding.state = 'discarded'
GROUP BY 1, 2, 3, 4, holding.id, holding.state, holding.worker, holding.error
ORDER BY rounds_of_run.kind DESC, rounds_of_run.number, lacking.problem_id, lacking.kind, holding.id
