-- A round of 7,500 problems, all but one of them new, and eight samples of each.
INSERT INTO problems (dataset_id, key, statement, reference_answer)
SELECT id, 'large ' || number, 'large ' || number, '1' FROM datasets, generate_series(2, 7500) AS number;
INSERT INTO round_problems (round_id, problem_id, position, allotment)
SELECT rounds.id, problems.id, problems.id, 9 FROM rounds, problems ON CONFLICT DO NOTHING;
INSERT INTO samples (round_id, problem_id, slot)
SELECT round_id, problem_id, slot FROM round_problems, generate_series(0, 7) AS slot;
ANALYZE problems, round_problems, samples, jobs, job_items
