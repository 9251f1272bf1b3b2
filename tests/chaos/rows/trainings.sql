-- Which trainings there were, and whether they have ended.
SELECT number, finished_at IS NOT NULL
FROM rounds JOIN training_runs ON round_id = rounds.id
