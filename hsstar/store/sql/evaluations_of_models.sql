-- The evaluations that hsstar evaluate has made, oldest first. No parameters.
SELECT
    results.run,
    results.model,
    results.benchmark,
    results.measure,
    results.state,
    results.accuracy,
    results.standard_error,
    results.problems,
    results.drawn AS samples,
    results.finished_at AS finished
FROM evaluation_results AS results
JOIN runs ON runs.name = results.run
WHERE runs.recipe -> 'problems' ->> 'dataset' = 'none' AND runs.held IS DISTINCT FROM 'archived'
ORDER BY results.round_id
