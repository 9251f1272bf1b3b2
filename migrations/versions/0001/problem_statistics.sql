-- A row per problem of an iteration: its accuracy, process quality, difficulty and pairs.
CREATE VIEW problem_statistics AS
SELECT
    remaining_budget.run,
    remaining_budget.iteration,
    remaining_budget.problem_id,
    remaining_budget.drawn,
    sampled.correct,
    sampled.accuracy,
    sampled.process_quality,
    difficulty_labels.level AS difficulty,
    remaining_budget.allotment,
    remaining_budget.in_flight,
    paired.pairs
FROM remaining_budget
JOIN runs ON runs.name = remaining_budget.run
JOIN rounds
    ON rounds.run_id = runs.id
    AND rounds.kind = 'iteration'
    AND rounds.number = remaining_budget.iteration
JOIN iterations ON iterations.round_id = rounds.id
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        CAST(count(*) FILTER (WHERE verdict = 'correct' AND slot < pre_samples) AS double precision)
            / nullif(count(cause) FILTER (WHERE slot < pre_samples), 0) AS accuracy,
        avg(min_reward) FILTER (WHERE slot < pre_samples) AS process_quality
    FROM samples
    WHERE samples.round_id = rounds.id AND samples.problem_id = remaining_budget.problem_id
) AS sampled
CROSS JOIN LATERAL (
    SELECT count(*) AS pairs
    FROM preference_pairs
    WHERE preference_pairs.round_id = rounds.id AND preference_pairs.problem_id = remaining_budget.problem_id
) AS paired
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = rounds.id AND difficulty_labels.problem_id = remaining_budget.problem_id;
