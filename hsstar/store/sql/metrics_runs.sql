-- The runs that metrics name: the newest that are not archived, one row a run. Parameter: most (how many).
SELECT
    runs.id,
    runs.name AS run,
    runs.held,
    count(*) FILTER (WHERE iterations.state = 'waiting') AS waiting,
    count(*) FILTER (WHERE iterations.state = 'pre_sampling') AS pre_sampling,
    count(*) FILTER (WHERE iterations.state = 're_sampling') AS re_sampling,
    count(*) FILTER (WHERE iterations.state = 'training') AS training,
    count(*) FILTER (WHERE iterations.state = 'evaluating') AS evaluating,
    count(*) FILTER (WHERE iterations.state = 'done') AS done
FROM runs
LEFT JOIN rounds ON rounds.run_id = runs.id
LEFT JOIN iterations ON iterations.round_id = rounds.id
WHERE runs.held IS DISTINCT FROM 'archived'
GROUP BY runs.id
ORDER BY runs.id DESC
LIMIT :most
