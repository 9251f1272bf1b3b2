-- The pairs of an iteration with their texts, in the order in which it trains on them.
--
-- The source of a response is null if the policy drew it. Parameter: round_id.
SELECT
    pairs.id,
    problems.statement,
    chosen_text.response AS chosen,
    rejected_text.response AS rejected,
    coalesce(chosen.finish_reason = 'length', false) AS chosen_cut,
    coalesce(rejected.finish_reason = 'length', false) AS rejected_cut,
    chosen_of.source AS chosen_source,
    rejected_of.source AS rejected_source
FROM preference_pairs AS pairs
JOIN problems ON problems.id = pairs.problem_id
JOIN round_problems
    ON round_problems.round_id = pairs.round_id AND round_problems.problem_id = pairs.problem_id
JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen.id
JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected.id
LEFT JOIN source_rounds AS chosen_of ON chosen_of.round_id = chosen.round_id
LEFT JOIN source_rounds AS rejected_of ON rejected_of.round_id = rejected.round_id
WHERE pairs.round_id = :round_id
ORDER BY round_problems.position, chosen.slot, chosen.round_id <> pairs.round_id, pairs.id
