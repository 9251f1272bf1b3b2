-- The samples of a run, with the field names of the published data.
--
-- rewards, step_rewards: what each reward of the recipe gives, by name; reward: the steps of the one that is shown.
-- Parameters: run_id, kind (iteration | evaluation | source).
SELECT
    rounds.number AS iteration,
    problems.key AS problem,
    problems.statement AS query,
    sample_responses.response AS resp,
    problems.reference_answer AS ref_ans,
    samples.answer AS ans,
    samples.verdict = 'correct' AS correct,
    samples.cause,
    samples.cause_detail,
    samples.slot,
    difficulty_labels.level AS difficulty,
    samples.min_reward,
    rewards.step_rewards AS reward,
    rewards_by_name(rounds.run_id, samples.id) AS rewards,
    (
        SELECT json_object_agg(named.name, given.step_rewards ORDER BY named.place)
        FROM run_rewards AS named
        JOIN rewards AS given USING (reward_model_id)
        WHERE named.run_id = rounds.run_id AND named.in_force AND given.sample_id = samples.id
    ) AS step_rewards,
    samples.tokens,
    samples.finish_reason,
    samples.cumulative_logprob,
    samples.seed,
    models.name AS model,
    samples.engine,
    samples.milliseconds,
    rounds.evaluation_key AS measure,
    coalesce(runs.recipe #>> '{steps,rule}', 'blank-line') AS step_rule,
    rewards.step_spans
FROM samples
JOIN rounds ON rounds.id = samples.round_id AND rounds.kind = :kind
JOIN runs ON runs.id = rounds.run_id
JOIN problems ON problems.id = samples.problem_id
JOIN sample_responses ON sample_responses.sample_id = samples.id
LEFT JOIN run_rewards ON run_rewards.run_id = rounds.run_id AND run_rewards.shown
LEFT JOIN rewards
    ON rewards.sample_id = samples.id AND rewards.reward_model_id = run_rewards.reward_model_id
LEFT JOIN models ON models.id = samples.model_id
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = samples.round_id AND difficulty_labels.problem_id = samples.problem_id
WHERE rounds.id IN (SELECT rounds_of(:run_id))
ORDER BY rounds.number, rounds.id, samples.problem_id, samples.slot
