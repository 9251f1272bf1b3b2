-- The preference pairs of a run with their texts, slots and the rewards that ranked them. Parameter: run_id.
--
-- The rewards beside are those of the recipe, by name; the source of a response is null if the policy drew it.
SELECT
    rounds.number AS iteration,
    problems.key AS problem,
    problems.statement,
    chosen_text.response AS chosen,
    rejected_text.response AS rejected,
    chosen.slot AS chosen_slot,
    rejected.slot AS rejected_slot,
    coalesce(chosen.pair_reward, chosen.min_reward) AS chosen_reward,
    coalesce(rejected.pair_reward, rejected.min_reward) AS rejected_reward,
    chosen.finish_reason AS chosen_finish_reason,
    rejected.finish_reason AS rejected_finish_reason,
    rewards_by_name(rounds.run_id, chosen.id) AS chosen_rewards,
    rewards_by_name(rounds.run_id, rejected.id) AS rejected_rewards,
    chosen_of.source AS chosen_source,
    rejected_of.source AS rejected_source
FROM preference_pairs AS pairs
JOIN rounds ON rounds.id = pairs.round_id
JOIN problems ON problems.id = pairs.problem_id
JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
LEFT JOIN source_rounds AS chosen_of ON chosen_of.round_id = chosen.round_id
LEFT JOIN source_rounds AS rejected_of ON rejected_of.round_id = rejected.round_id
JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen.id
JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected.id
WHERE rounds.id IN (SELECT rounds_of(:run_id))
ORDER BY rounds.number, pairs.id
