-- The hash, in the run's seeded shuffle, of the last problem that gets one sample more at a wave of the allocation.
--
-- Parameters: round_id, wave, rest (how many get one more), seed, iteration, and one array per column of `states`, in
-- which problems may get one more. Null if none gets one.
WITH
states AS (
    SELECT * FROM unnest(
        CAST(:correct AS int[]), CAST(:incorrect AS int[]), CAST(:drawn AS int[]), CAST(:level AS text[])
    ) AS states (correct, incorrect, drawn, level)
),
first AS (
    SELECT sha256(convert_to(
        concat_ws(':', CAST(:seed AS bigint), 'remainder', CAST(:iteration AS int), problems.key), 'UTF8'
    )) AS hash
    FROM allocations
    LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
    JOIN states ON (states.correct, states.incorrect, states.drawn, states.level)
        = (allocations.correct, allocations.incorrect, allocations.drawn, coalesce(labels.level, ''))
    JOIN problems ON problems.id = problem_id
    WHERE round_id = :round_id AND wave = :wave
    ORDER BY hash
    LIMIT :rest
)
SELECT hash FROM first ORDER BY hash DESC LIMIT 1
