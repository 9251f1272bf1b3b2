-- Per iteration of a run, the area under the ROC curve of S(r) as a sign of correctness (Mann–Whitney statistic).
--
-- The probability that a correct sample has a higher minimum reward than an incorrect one; ties count half. Null where
-- one of the two is missing. Parameter: run_id.
WITH
ranked AS (
    SELECT
        iteration,
        verdict,
        rank() OVER same_iteration + (count(*) OVER tied - 1) / 2.0 AS mean_rank
    FROM sample_facts
    JOIN runs ON runs.name = sample_facts.run
    WHERE runs.id = :run_id AND verdict IS NOT NULL AND min_reward IS NOT NULL
    WINDOW
        same_iteration AS (PARTITION BY iteration ORDER BY min_reward),
        tied AS (PARTITION BY iteration, min_reward)
),
sums AS (
    SELECT
        iteration,
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        count(*) FILTER (WHERE verdict = 'incorrect') AS incorrect,
        sum(mean_rank) FILTER (WHERE verdict = 'correct') AS rank_sum
    FROM ranked
    GROUP BY iteration
)
SELECT
    iteration,
    CAST((rank_sum - correct * (correct + 1) / 2.0) / nullif(correct * incorrect, 0) AS double precision) AS area
FROM sums
ORDER BY iteration
