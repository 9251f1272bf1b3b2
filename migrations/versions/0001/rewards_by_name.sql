-- What the rewards of a run's recipe give a sample, as an object by their names in the recipe's order; null without any.
CREATE FUNCTION rewards_by_name(of_run bigint, of_sample bigint) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_object_agg(run_rewards.name, reward_of(rewards.step_rewards, run_rewards.aggregation) ORDER BY place)
    FROM run_rewards
    JOIN rewards USING (reward_model_id)
    WHERE run_rewards.run_id = of_run AND in_force AND rewards.sample_id = of_sample
$$
