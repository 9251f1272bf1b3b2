-- The preference pairs of a run with their texts, slots and the rewards that ranked them. Parameter: run_id.
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
    rejected.finish_reason AS rejected_finish_reason
FROM preference_pairs AS pairs
JOIN rounds ON rounds.id = pairs.round_id
JOIN problems ON problems.id = pairs.problem_id
JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen.id
JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected.id
WHERE rounds.id IN (SELECT rounds_of(:run_id))
ORDER BY rounds.number, pairs.id
