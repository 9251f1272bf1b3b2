-- The pairs by the slots of their samples.
SELECT kind, number, key, chosen.slot, rejected.slot
FROM rounds JOIN round_problems ON round_problems.round_id = rounds.id
JOIN problems ON problems.id = round_problems.problem_id
JOIN preference_pairs AS pairs USING (round_id, problem_id)
JOIN samples AS chosen ON chosen.id = chosen_sample_id
JOIN samples AS rejected ON rejected.id = rejected_sample_id
