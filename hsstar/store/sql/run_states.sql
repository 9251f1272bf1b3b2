-- How far the named runs are: their iterations and live jobs. Parameter: names.
SELECT
    runs.name AS run,
    (SELECT count(*) FROM rounds WHERE run_id = runs.id AND kind = 'iteration') AS iterations,
    (
        SELECT count(*)
        FROM rounds
        JOIN iterations ON iterations.round_id = rounds.id
        WHERE run_id = runs.id AND state = 'done'
    ) AS done,
    count(jobs.id) FILTER (WHERE jobs.state IN ('queued', 'running')) AS live_jobs,
    count(jobs.id) FILTER (WHERE jobs.state = 'failed') AS failed_jobs,
    runs.held_reason AS held
FROM runs
LEFT JOIN rounds ON rounds.run_id = runs.id
LEFT JOIN jobs ON jobs.round_id = rounds.id AND jobs.state <> 'done'
WHERE runs.name = ANY (CAST(:names AS text[]))
GROUP BY runs.id
ORDER BY runs.id
