-- The jobs of some runs by kind and state, one row each. Parameter: run_ids.
SELECT
    runs.name AS run,
    jobs.kind,
    jobs.state,
    count(*) AS jobs,
    CAST(sum(jobs.attempts) AS bigint) AS attempts,
    CAST(sum(jobs.lapses) AS bigint) AS lapses
FROM jobs
JOIN rounds ON rounds.id = jobs.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE runs.id = ANY (:run_ids)
GROUP BY runs.id, jobs.kind, jobs.state
ORDER BY runs.id, jobs.kind, jobs.state
