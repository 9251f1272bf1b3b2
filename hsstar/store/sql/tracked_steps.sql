-- The optimiser steps of a run behind a number, counted over all its trainings. Parameters: run_id, after, most.
WITH
trainings AS (
    SELECT
        training_runs.id,
        rounds.number,
        sum(training_runs.steps) OVER (ORDER BY rounds.number) - training_runs.steps AS steps_before
    FROM training_runs
    JOIN rounds ON rounds.id = training_runs.round_id
    WHERE rounds.run_id = :run_id AND training_runs.steps IS NOT NULL
)
SELECT
    CAST(trainings.steps_before + training_steps.step AS bigint) AS step,
    trainings.number AS iteration,
    training_steps.recorded_at,
    training_steps.loss,
    training_steps.reward_margin,
    training_steps.reward_accuracy,
    training_steps.reward_chosen,
    training_steps.reward_rejected,
    training_steps.logp_chosen,
    training_steps.logp_rejected,
    training_steps.kl,
    training_steps.token_accuracy,
    training_steps.grad_norm,
    training_steps.learning_rate,
    training_steps.tokens_per_second
FROM trainings
JOIN training_steps ON training_steps.training_run_id = trainings.id
WHERE trainings.steps_before + training_steps.step > :after
ORDER BY step
LIMIT :most
