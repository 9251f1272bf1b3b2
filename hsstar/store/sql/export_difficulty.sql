-- How hard the problems of a run's iterations are. Parameters: run_id, iteration (null for all).
SELECT
    problems.statement AS problem,
    problems.reference_answer AS answer,
    problems.source_id AS id,
    problems.key,
    rounds.number AS iteration,
    CAST(judged.correct AS double precision) / nullif(judged.verdicts, 0) AS pass_rate,
    judged.verdicts AS samples,
    labels.accuracy AS phi_acc,
    labels.process_quality AS phi_r,
    labels.level
FROM rounds
JOIN round_problems ON round_problems.round_id = rounds.id
JOIN problems ON problems.id = round_problems.problem_id
LEFT JOIN difficulty_labels AS labels
    ON labels.round_id = rounds.id AND labels.problem_id = round_problems.problem_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE verdict = 'correct') AS correct, count(verdict) AS verdicts
    FROM samples
    WHERE samples.round_id = rounds.id AND samples.problem_id = round_problems.problem_id
) AS judged
WHERE rounds.id IN (SELECT rounds_of(:run_id))
  AND rounds.kind = 'iteration'
  AND (CAST(:iteration AS int) IS NULL OR rounds.number = :iteration)
ORDER BY rounds.number, round_problems.position
