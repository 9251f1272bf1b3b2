-- The problems of each iteration of two runs, with those that they share: how many in each, and in both.
--
-- Parameters: first, second (run ids).
WITH
slices AS (
    SELECT rounds.number, round_problems.problem_id, asked.place
    FROM (VALUES (1, CAST(:first AS bigint)), (2, CAST(:second AS bigint))) AS asked (place, run_id)
    CROSS JOIN LATERAL rounds_of(asked.run_id) AS of_run (id)
    JOIN rounds ON rounds.id = of_run.id AND rounds.kind = 'iteration'
    JOIN round_problems ON round_problems.round_id = rounds.id
),
places AS (
    SELECT number, problem_id, bool_or(place = 1) AS in_first, bool_or(place = 2) AS in_second
    FROM slices
    GROUP BY number, problem_id
)
SELECT
    number,
    count(*) FILTER (WHERE in_first) AS first,
    count(*) FILTER (WHERE in_second) AS second,
    count(*) FILTER (WHERE in_first AND in_second) AS both
FROM places
GROUP BY number
ORDER BY number
