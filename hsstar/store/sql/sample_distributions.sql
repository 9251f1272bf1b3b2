-- Histograms of the samples of an iteration, or of all of a run: a row per figure, verdict and bucket with any.
--
-- Parameters: run_id, iteration (null: all), buckets (per histogram). Bucket 0 begins at 0 and the last one ends at
-- `upper`. The figures: reward and tokens. One pass over the samples counts them by bucket of reward, and by tokens: a
-- policy's samples have far fewer different lengths than there are samples, and the longest says the buckets.
WITH
counted AS (
    SELECT verdict, reward_bucket, tokens, grouping(tokens) = 1 AS by_reward, count(*) AS number
    FROM (
        SELECT verdict, width_bucket(min_reward, 0, 1, :buckets) AS reward_bucket, tokens
        FROM samples
        WHERE verdict IS NOT NULL AND round_id IN (
            SELECT id FROM rounds
            WHERE id IN (SELECT rounds_of(:run_id)) AND kind = 'iteration'
              AND (CAST(:iteration AS integer) IS NULL OR number = :iteration)
        )
    ) AS judged
    GROUP BY GROUPING SETS ((verdict, reward_bucket), (verdict, tokens))
),
longest AS (
    SELECT greatest(max(tokens), 1) AS tokens FROM counted
),
placed AS (
    SELECT 'reward' AS figure, verdict AS series, reward_bucket AS bucket, 1.0 AS upper, number
    FROM counted
    WHERE by_reward AND reward_bucket IS NOT NULL
    UNION ALL
    SELECT 'tokens', verdict, width_bucket(counted.tokens, 0, longest.tokens, :buckets), longest.tokens, number
    FROM counted CROSS JOIN longest
    WHERE NOT by_reward AND counted.tokens IS NOT NULL
)
SELECT
    figure,
    series,
    CAST(least(bucket, :buckets) - 1 AS integer) AS bucket,
    CAST(upper AS double precision) AS upper,
    CAST(sum(number) AS bigint) AS number
FROM placed
GROUP BY figure, series, 3, upper
ORDER BY figure, series, 3
