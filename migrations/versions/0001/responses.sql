-- A row per sample of an iteration, evaluation or source: the problem, the response, its step rewards and its verdict.
CREATE VIEW responses AS
SELECT
    runs.name AS run,
    coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    difficulty_labels.level AS difficulty,
    problems.statement,
    problems.reference_answer,
    sample_responses.response,
    samples.answer,
    samples.verdict,
    samples.cause,
    samples.cause_detail,
    samples.min_reward,
    rewards.step_rewards,
    samples.tokens,
    samples.finish_reason,
    models.name AS model,
    CASE WHEN chosen.id IS NOT NULL THEN 'chosen' WHEN rejected.id IS NOT NULL THEN 'rejected' END AS pair,
    samples.id AS sample_id
FROM samples
JOIN rounds ON rounds.id = samples.round_id AND rounds.kind <> 'steps'
JOIN runs ON runs.id = rounds.run_id
JOIN problems ON problems.id = samples.problem_id
LEFT JOIN sample_responses ON sample_responses.sample_id = samples.id
LEFT JOIN run_rewards ON run_rewards.run_id = rounds.run_id AND run_rewards.shown
LEFT JOIN rewards
    ON rewards.sample_id = samples.id AND rewards.reward_model_id = run_rewards.reward_model_id
LEFT JOIN models ON models.id = samples.model_id
LEFT JOIN preference_pairs AS chosen ON chosen.chosen_sample_id = samples.id
LEFT JOIN preference_pairs AS rejected ON rejected.rejected_sample_id = samples.id
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = samples.round_id AND difficulty_labels.problem_id = samples.problem_id;
