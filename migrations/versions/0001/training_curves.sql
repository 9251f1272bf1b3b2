-- A row per optimiser step of every training.
CREATE VIEW training_curves AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    models.name AS model,
    training_runs.objective,
    training_steps.step,
    training_runs.steps,
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
    training_steps.tokens_per_second,
    training_steps.recorded_at,
    CAST(trainings.steps_before + training_steps.step AS bigint) AS run_step
FROM training_steps
JOIN training_runs ON training_runs.id = training_steps.training_run_id
JOIN (
    SELECT training_runs.id, sum(steps) OVER (PARTITION BY run_id ORDER BY number, training_runs.id) - steps AS steps_before
    FROM training_runs
    JOIN rounds ON rounds.id = round_id
) AS trainings ON trainings.id = training_runs.id
JOIN models ON models.id = training_runs.model_id
JOIN rounds ON rounds.id = training_runs.round_id
JOIN runs ON runs.id = rounds.run_id;
