-- Every sample with its verdict, its rewards and the policy that it was drawn from.
SELECT kind, number, key, slot, response, samples.seed, tokens, verdict, cause, samples.answer,
    min_reward, step_rewards, fingerprint
FROM rounds JOIN round_problems ON round_problems.round_id = rounds.id
JOIN problems ON problems.id = round_problems.problem_id
JOIN samples USING (round_id, problem_id)
JOIN sample_responses ON sample_responses.sample_id = samples.id
LEFT JOIN rewards ON rewards.sample_id = samples.id
LEFT JOIN models ON models.id = samples.model_id
