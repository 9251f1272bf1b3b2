-- The slices, and what was found about their problems.
SELECT kind, number, key, position, allotment, exclusion, labels.level, accuracy, process_quality
FROM rounds JOIN round_problems ON round_problems.round_id = rounds.id
JOIN problems ON problems.id = round_problems.problem_id
LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
