-- How well rewards tell correct samples of a round from incorrect ones, and how much its texts vary.
--
-- area: under the ROC curve of S(r) as a sign of correctness (Mann–Whitney statistic), which is the probability that a
-- correct sample has a higher minimum reward than an incorrect one; ties count half. Null where one of the two is
-- missing. different: the share of samples whose text no other sample of their problem has had. Parameters: round_id,
-- most (samples: of a bigger round, about so many; those of the first problems in the order of its slice, which is
-- random).
WITH
chosen AS (
    SELECT problem_id
    FROM round_problems
    WHERE round_id = :round_id AND position < (
        SELECT count(*) FROM round_problems WHERE round_id = :round_id
    ) * least(1.0, :most / (
        SELECT nullif(sum(drawn), 0) FROM sample_counts WHERE round_id = :round_id
    ))
),
ranked AS (
    SELECT
        verdict,
        rank() OVER (ORDER BY min_reward) + (count(*) OVER (PARTITION BY min_reward) - 1) / 2.0 AS mean_rank
    FROM samples
    JOIN chosen USING (problem_id)
    WHERE round_id = :round_id AND verdict IS NOT NULL AND min_reward IS NOT NULL
),
sums AS (
    SELECT
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        count(*) FILTER (WHERE verdict = 'incorrect') AS incorrect,
        sum(mean_rank) FILTER (WHERE verdict = 'correct') AS rank_sum
    FROM ranked
),
texts AS (
    SELECT
        CAST(count(DISTINCT (problem_id, text_hash)) AS double precision) / nullif(count(*), 0) AS different
    FROM samples
    JOIN chosen USING (problem_id)
    WHERE samples.round_id = :round_id
)
SELECT
    CAST((rank_sum - correct * (correct + 1) / 2.0) / nullif(correct * incorrect, 0) AS double precision) AS area,
    different
FROM sums CROSS JOIN texts
