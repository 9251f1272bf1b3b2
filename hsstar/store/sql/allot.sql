-- Spreads the remaining budget evenly over the problems of the re-sampled levels (METHOD step 4).
--
-- SQL twin of `allot` in domain/allocation/budget.py: the same totals, the same seeded shuffle for the remainder.
-- Parameters: round_id, n, n_p, levels, seed, iteration. A second run changes nothing.
WITH
remaining AS (
    SELECT (:n - :n_p) * count(*) AS samples FROM round_problems WHERE round_id = :round_id
),
chosen AS (
    SELECT
        labels.problem_id,
        count(*) OVER () AS problems,
        row_number() OVER (
            ORDER BY sha256(convert_to(
                concat_ws(':', CAST(:seed AS bigint), 'remainder', CAST(:iteration AS int), problems.key), 'UTF8'
            ))
        ) - 1 AS place
    FROM difficulty_labels AS labels
    JOIN round_problems USING (round_id, problem_id)
    JOIN problems ON problems.id = labels.problem_id
    WHERE labels.round_id = :round_id
      AND labels.level = ANY (CAST(:levels AS text[]))
      AND round_problems.exclusion IS NULL
),
shares AS (
    SELECT
        chosen.problem_id,
        :n_p + remaining.samples / chosen.problems
            + CASE WHEN chosen.place < remaining.samples % chosen.problems THEN 1 ELSE 0 END AS allotment
    FROM chosen
    CROSS JOIN remaining
)
UPDATE round_problems
SET allotment = shares.allotment
FROM shares
WHERE round_problems.round_id = :round_id AND round_problems.problem_id = shares.problem_id
