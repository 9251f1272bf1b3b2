-- The missing samples, verdicts, rewards and trainings of a run, each with the job that it is assigned to.
--
-- Parameter: run_id. One row per round, problem, kind of work and job; job is null if the next sweep will enqueue
-- the work. Discarded work stays in the list, even in rounds that are done.
WITH
rounds_of_run AS (
    SELECT
        rounds.id,
        rounds.kind,
        rounds.number,
        round_states.state,
        rounds.kind IN ('iteration', 'source') AND EXISTS (SELECT FROM run_rewards WHERE run_rewards.run_id = runs.id) AS scored
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    JOIN round_states ON round_states.round_id = rounds.id
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
        rounds_of_run.state <> 'done' AND round_problems.exclusion IS NULL AS is_target
    FROM round_problems
    JOIN rounds_of_run ON rounds_of_run.id = round_problems.round_id
    CROSS JOIN LATERAL generate_series(0, round_problems.allotment - 1) AS address (slot)
    LEFT JOIN samples
        ON samples.round_id = round_problems.round_id
        AND samples.problem_id = round_problems.problem_id
        AND samples.slot = address.slot
),
-- a verdict or reward is missing only if its sample is drawn
missing AS (
    SELECT round_id, problem_id, slot, is_target, 'sample' AS kind FROM addresses WHERE NOT drawn
    UNION ALL
    SELECT round_id, problem_id, slot, is_target, 'verify' FROM addresses WHERE drawn AND NOT verified
    UNION ALL
    SELECT round_id, problem_id, slot, is_target, 'score' FROM addresses WHERE drawn AND NOT scored
    UNION ALL
    SELECT id, NULL, NULL, true, 'train' FROM rounds_of_run WHERE kind = 'iteration' AND state = 'training'
),
assigned AS (
    SELECT jobs.id, jobs.round_id, jobs.kind, jobs.state, jobs.worker, jobs.error, job_items.problem_id, assigned_slot.slot
    FROM jobs
    LEFT JOIN job_items ON job_items.job_id = jobs.id
    LEFT JOIN LATERAL unnest(job_items.slots) AS assigned_slot (slot) ON true
    WHERE jobs.state <> 'done' AND jobs.round_id IN (SELECT id FROM rounds_of_run)
)
SELECT
    rounds_of_run.kind || ' ' || rounds_of_run.number AS round,
    missing.problem_id AS problem,
    CASE missing.kind
        WHEN 'verify' THEN 'verdict' WHEN 'score' THEN 'reward' WHEN 'train' THEN 'trained policy' ELSE missing.kind
    END AS lacks,
    array_remove(array_agg(missing.slot ORDER BY missing.slot), NULL) AS slots,
    assigned.id AS job,
    CASE assigned.state
        WHEN 'running' THEN concat_ws(' at ', assigned.state, assigned.worker)
        ELSE coalesce(assigned.state, 'the next sweep')
    END AS held_by,
    assigned.error
FROM missing
JOIN rounds_of_run ON rounds_of_run.id = missing.round_id
LEFT JOIN assigned
    ON assigned.round_id = missing.round_id
    AND assigned.kind = missing.kind
    AND coalesce(assigned.problem_id, 0) = coalesce(missing.problem_id, 0) -- joined by hash; IS NOT DISTINCT is not
    AND coalesce(assigned.slot, -1) = coalesce(missing.slot, -1)
WHERE missing.is_target OR assigned.state = 'discarded'
GROUP BY
    rounds_of_run.kind, rounds_of_run.number, missing.problem_id, missing.kind, assigned.id, assigned.state, assigned.worker, assigned.error
ORDER BY rounds_of_run.kind = 'steps', rounds_of_run.kind = 'source', rounds_of_run.kind DESC, rounds_of_run.number, missing.problem_id, missing.kind, assigned.id
