-- A row per problem of an iteration or evaluation: what the samples of its policy came to.
--
-- Rounds whose samples are complete have it stored; that of others is counted problem by problem.
CREATE VIEW problem_outcomes AS
WITH
outcomes AS (
    SELECT stored_outcomes.* FROM stored_outcomes JOIN rounds ON rounds.id = round_id WHERE outcomes_stored
    UNION ALL
    SELECT counted.* FROM rounds CROSS JOIN LATERAL count_outcomes(rounds.id) AS counted WHERE NOT outcomes_stored
)
SELECT
    runs.name AS run,
    coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
    rounds.number AS iteration,
    outcomes.problem_id,
    outcomes.drawn,
    outcomes.correct,
    CAST(outcomes.correct AS double precision) / nullif(outcomes.drawn, 0) AS pass_rate,
    outcomes.undecided,
    outcomes.overrated,
    outcomes.underrated,
    outcomes.cut,
    outcomes.causes,
    outcomes.mean_tokens,
    outcomes.mean_reward,
    outcomes.pairs,
    outcomes.difficulty,
    outcomes.accuracy,
    outcomes.process_quality,
    outcomes.round_id
FROM outcomes
JOIN rounds ON rounds.id = outcomes.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE rounds.kind IN ('iteration', 'evaluation');
