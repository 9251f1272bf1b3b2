-- A row per problem of a run: what became of it under the policies M_0, M_1, … that have sampled it.
CREATE VIEW problem_lifelines AS
SELECT
    runs.name AS run,
    coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
    round_problems.problem_id,
    array_agg(rounds.number ORDER BY rounds.number) AS policies,
    array_agg(sampled.drawn ORDER BY rounds.number) AS drawn,
    array_agg(CAST(sampled.correct AS double precision) / sampled.drawn ORDER BY rounds.number) AS pass_rates,
    array_agg(difficulty_labels.level ORDER BY rounds.number) AS levels,
    array_agg(sampled.reward ORDER BY rounds.number) AS rewards
FROM rounds
JOIN runs ON runs.id = rounds.run_id
JOIN round_problems ON round_problems.round_id = rounds.id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS drawn,
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        avg(min_reward) AS reward
    FROM samples
    WHERE samples.round_id = rounds.id AND samples.problem_id = round_problems.problem_id
) AS sampled
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = rounds.id AND difficulty_labels.problem_id = round_problems.problem_id
WHERE sampled.drawn > 0 AND rounds.kind IN ('iteration', 'evaluation')
GROUP BY runs.name, rounds.evaluation_key, round_problems.problem_id;
