-- A mark for every run, which changes when there is something new to see of it. No parameters.
--
-- It is read every second while a page is open, so it reads counters and live rows alone.
WITH
sampled AS (
    SELECT rounds.run_id, sum(drawn + verified + scored) AS samples
    FROM sample_counts
    JOIN rounds ON rounds.id = sample_counts.round_id
    GROUP BY rounds.run_id
),
live AS (
    SELECT rounds.run_id, count(*) AS jobs, max(jobs.id) AS newest, string_agg(DISTINCT jobs.state, ' ') AS states
    FROM jobs
    JOIN rounds ON rounds.id = jobs.round_id
    WHERE jobs.state <> 'done'
    GROUP BY rounds.run_id
),
staged AS (
    SELECT rounds.run_id, string_agg(round_states.state, ' ' ORDER BY rounds.id) AS states
    FROM rounds
    JOIN round_states ON round_states.round_id = rounds.id
    GROUP BY rounds.run_id
),
trained AS (
    SELECT rounds.run_id, sum(steps_done) AS steps
    FROM training_runs
    JOIN rounds ON rounds.id = training_runs.round_id
    GROUP BY rounds.run_id
)
SELECT
    runs.name,
    md5(concat_ws('|',
        runs.held, sampled.samples, live.jobs, live.newest, live.states, staged.states, trained.steps
    )) AS mark
FROM runs
LEFT JOIN sampled ON sampled.run_id = runs.id
LEFT JOIN live ON live.run_id = runs.id
LEFT JOIN staged ON staged.run_id = runs.id
LEFT JOIN trained ON trained.run_id = runs.id
ORDER BY runs.id
