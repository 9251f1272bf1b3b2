-- Gives some problems what a wave of the allocation has for their states, and raises their allotments by it.
--
-- With last_of_rest.sql the SQL twin of `allot` in domain/allocation/sharing.py. Parameters: round_id, wave, last (hash
-- of the last problem that gets one more), seed, iteration, problem_ids, and one array per column of `shares`, those
-- alone that get some. A second run changes nothing, however late.
WITH
shares AS (
    SELECT * FROM unnest(
        CAST(:correct AS int[]), CAST(:incorrect AS int[]), CAST(:drawn AS int[]), CAST(:level AS text[]),
        CAST(:samples AS int[]), CAST(:one_more AS boolean[])
    ) AS shares (correct, incorrect, drawn, level, samples, one_more)
),
shared AS MATERIALIZED (
    SELECT
        allocations.problem_id,
        shares.samples + CASE
            WHEN one_more AND sha256(convert_to(
                concat_ws(':', CAST(:seed AS bigint), 'remainder', CAST(:iteration AS int), problems.key), 'UTF8'
            )) <= CAST(:last AS bytea) THEN 1
            ELSE 0
        END AS samples
    FROM allocations
    JOIN problems ON problems.id = allocations.problem_id
    LEFT JOIN difficulty_labels AS labels
        ON labels.round_id = :round_id
        AND labels.problem_id = allocations.problem_id
        AND labels.problem_id = ANY (CAST(:problem_ids AS bigint[]))
    JOIN shares ON (shares.correct, shares.incorrect, shares.drawn, shares.level)
        = (allocations.correct, allocations.incorrect, allocations.drawn, coalesce(labels.level, ''))
    WHERE allocations.round_id = :round_id
      AND wave = :wave
      AND allocations.problem_id = ANY (CAST(:problem_ids AS bigint[]))
      AND problems.id = ANY (CAST(:problem_ids AS bigint[]))
),
given AS (
    UPDATE allocations
    SET samples = shared.samples
    FROM shared
    WHERE allocations.round_id = :round_id
      AND allocations.wave = :wave
      AND allocations.problem_id = shared.problem_id
      AND allocations.problem_id = ANY (CAST(:problem_ids AS bigint[]))
    RETURNING allocations.problem_id, allocations.samples
)
UPDATE round_problems
SET allotment = pre_samples + given.samples + coalesce((
        SELECT sum(others.samples) FROM allocations AS others
        WHERE others.round_id = :round_id AND others.problem_id = given.problem_id AND others.wave <> :wave
    ), 0)
FROM given, iterations
WHERE iterations.round_id = :round_id
  AND round_problems.round_id = :round_id
  AND round_problems.problem_id = given.problem_id
  AND round_problems.problem_id = ANY (CAST(:problem_ids AS bigint[]))
