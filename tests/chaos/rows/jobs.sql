-- The state of every job, and the addresses that it holds. How jobs are cut may differ between two runs.
SELECT jobs.state, rounds.kind, number, jobs.kind, problem_id, held.slot
FROM jobs JOIN rounds ON rounds.id = round_id
LEFT JOIN job_items ON job_id = jobs.id LEFT JOIN LATERAL unnest(slots) AS held (slot) ON true
