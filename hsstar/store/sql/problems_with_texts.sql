-- The view problem_statistics with what its problems say, and where they come from.
SELECT
    problem_statistics.*,
    datasets.name AS dataset,
    problems.source_id,
    problems.subject,
    problems.statement,
    problems.reference_answer
FROM problem_statistics
JOIN problems ON problems.id = problem_statistics.problem_id
JOIN datasets ON datasets.id = problems.dataset_id
