-- The newest training of each run with its last recorded step. Parameter: run_ids.
SELECT DISTINCT ON (runs.id)
    runs.name AS run,
    rounds.number AS iteration,
    training_steps.step,
    training_runs.steps,
    training_steps.loss,
    training_steps.tokens_per_second
FROM training_steps
JOIN training_runs ON training_runs.id = training_steps.training_run_id
JOIN rounds ON rounds.id = training_runs.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE runs.id = ANY (:run_ids)
ORDER BY runs.id, training_runs.id DESC, training_steps.step DESC
