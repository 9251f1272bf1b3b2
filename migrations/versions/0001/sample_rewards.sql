-- A row per reward of each sample, by its name in the recipe, and per reward that scored it again.
CREATE VIEW sample_rewards AS
SELECT
    runs.name AS run,
    coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    run_rewards.name AS reward,
    reward_of(rewards.step_rewards, run_rewards.aggregation) AS value,
    run_rewards.aggregation,
    run_rewards.weight,
    run_rewards.use,
    run_rewards.in_force,
    reward_models.name AS model,
    reward_models.family AS kind,
    reward_models.fingerprint AS version,
    rewards.step_rewards,
    rewards.truncated,
    samples.id AS sample_id
FROM rewards
JOIN samples ON samples.id = rewards.sample_id
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
JOIN run_rewards ON run_rewards.run_id = rounds.run_id AND run_rewards.reward_model_id = rewards.reward_model_id
JOIN reward_models ON reward_models.id = rewards.reward_model_id;
