-- What each problem of the re-sampled levels gets of the remaining budget (METHOD step 4): an even share, and one more
-- for the first of them in the run's seeded shuffle, up to the one with this hash (null: nobody gets more).
--
-- Parameters: round_id, n, n_p, levels, seed, iteration.
WITH
chosen AS (
    SELECT sha256(convert_to(
        concat_ws(':', CAST(:seed AS bigint), 'remainder', CAST(:iteration AS int), problems.key), 'UTF8'
    )) AS hash
    FROM difficulty_labels AS labels
    JOIN round_problems USING (round_id, problem_id)
    JOIN problems ON problems.id = labels.problem_id
    WHERE labels.round_id = :round_id
      AND labels.level = ANY (CAST(:levels AS text[]))
      AND round_problems.exclusion IS NULL
),
sizes AS (
    SELECT
        (:n - :n_p) * (SELECT count(*) FROM round_problems WHERE round_id = :round_id) AS samples,
        nullif((SELECT count(*) FROM chosen), 0) AS problems
)
SELECT
    coalesce(samples / problems, 0) AS share,
    (
        SELECT hash FROM (SELECT hash FROM chosen ORDER BY hash LIMIT samples % problems) AS first
        ORDER BY hash DESC LIMIT 1
    ) AS last
FROM sizes
