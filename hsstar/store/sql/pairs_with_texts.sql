-- The preference pairs of iterations: both responses (null once pruned), their addresses and the rewards that ranked them.
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    pairs.problem_id,
    problems.statement,
    chosen_text.response AS chosen,
    rejected_text.response AS rejected,
    chosen.slot AS chosen_slot,
    rejected.slot AS rejected_slot,
    coalesce(chosen.pair_reward, chosen.min_reward) AS chosen_reward,
    coalesce(rejected.pair_reward, rejected.min_reward) AS rejected_reward,
    pairs.repeated,
    pairs.chosen_sample_id,
    pairs.rejected_sample_id,
    chosen_of.source AS chosen_source,
    rejected_of.source AS rejected_source
FROM preference_pairs AS pairs
JOIN rounds ON rounds.id = pairs.round_id
JOIN runs ON runs.id = rounds.run_id
JOIN problems ON problems.id = pairs.problem_id
JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
LEFT JOIN source_rounds AS chosen_of ON chosen_of.round_id = chosen.round_id
LEFT JOIN source_rounds AS rejected_of ON rejected_of.round_id = rejected.round_id
LEFT JOIN sample_responses AS chosen_text ON chosen_text.sample_id = pairs.chosen_sample_id
LEFT JOIN sample_responses AS rejected_text ON rejected_text.sample_id = pairs.rejected_sample_id
