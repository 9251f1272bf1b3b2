-- What each wave of the allocation knew of a problem, and what it gave it.
SELECT kind, number, wave, key, correct, incorrect, drawn, allocations.samples
FROM rounds JOIN allocations ON allocations.round_id = rounds.id
JOIN problems ON problems.id = allocations.problem_id
