-- How the budget of some iterations came to one problem: its pre-samples, then what each wave gave it, and why.
--
-- gains: what the allocation policy's table says that each further sample of the problem's state is worth; as many as the
-- wave gave. Parameters: round_ids, problem_id.
WITH
given AS (
    SELECT
        round_id,
        wave,
        correct,
        incorrect,
        drawn,
        samples,
        pre_samples + sum(samples) OVER (PARTITION BY round_id ORDER BY wave) - samples AS first_slot
    FROM allocations
    JOIN iterations USING (round_id)
    WHERE round_id = ANY (CAST(:round_ids AS bigint[])) AND problem_id = :problem_id
)
SELECT
    rounds.number AS iteration,
    NULL AS wave,
    0 AS first_slot,
    least(iterations.pre_samples, assigned.allotment) AS samples,
    NULL AS correct_before,
    NULL AS incorrect_before,
    CAST('{}' AS double precision[]) AS gains
FROM round_problems AS assigned
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = assigned.round_id
WHERE assigned.round_id = ANY (CAST(:round_ids AS bigint[])) AND assigned.problem_id = :problem_id
UNION ALL
SELECT
    rounds.number,
    given.wave,
    CAST(given.first_slot AS int),
    given.samples,
    given.correct,
    given.incorrect,
    ARRAY(
        SELECT CAST(gain.value AS double precision)
        FROM jsonb_array_elements(allocation_waves.gains) AS entry
        CROSS JOIN LATERAL jsonb_array_elements_text(entry -> 4) WITH ORDINALITY AS gain (value, place)
        WHERE CAST(entry ->> 0 AS int) = given.correct
          AND CAST(entry ->> 1 AS int) = given.incorrect
          AND CAST(entry ->> 2 AS int) = given.drawn
          AND entry ->> 3 = coalesce(labels.level, '')
          AND gain.place <= given.samples
        ORDER BY gain.place
    )
FROM given
JOIN allocation_waves USING (round_id, wave)
JOIN rounds ON rounds.id = given.round_id
LEFT JOIN difficulty_labels AS labels ON labels.round_id = given.round_id AND labels.problem_id = :problem_id
ORDER BY iteration, wave NULLS FIRST
