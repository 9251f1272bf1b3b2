-- The view sample_facts with what its samples say: problem, reference, answer, response and step rewards.
SELECT
    sample_facts.*,
    problems.statement,
    problems.reference_answer,
    samples.answer,
    sample_responses.response,
    rewards.step_rewards
FROM sample_facts
JOIN samples ON samples.id = sample_facts.sample_id
JOIN problems ON problems.id = sample_facts.problem_id
JOIN runs ON runs.name = sample_facts.run
LEFT JOIN sample_responses ON sample_responses.sample_id = sample_facts.sample_id
LEFT JOIN run_rewards ON run_rewards.run_id = runs.id AND run_rewards.shown
LEFT JOIN rewards
    ON rewards.sample_id = sample_facts.sample_id AND rewards.reward_model_id = run_rewards.reward_model_id
