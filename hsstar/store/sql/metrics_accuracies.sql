-- The evaluations of some runs that are done: accuracy by policy and what was measured. Parameter: run_ids.
SELECT
    runs.name AS run,
    rounds.number AS policy,
    rounds.evaluation_key AS measure,
    evaluations.accuracy,
    evaluations.standard_error,
    evaluations.finished_at
FROM evaluations
JOIN rounds ON rounds.id = evaluations.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE runs.id = ANY (:run_ids) AND evaluations.accuracy IS NOT NULL
ORDER BY runs.id, rounds.number, rounds.evaluation_key
