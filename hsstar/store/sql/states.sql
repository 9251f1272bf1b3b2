-- How many problems are in each state at a wave of the allocation. Parameters: round_id, wave.
SELECT correct, incorrect, drawn, level, count(*) AS problems
FROM allocations
LEFT JOIN difficulty_labels USING (round_id, problem_id)
WHERE round_id = :round_id AND wave = :wave
GROUP BY correct, incorrect, drawn, level
