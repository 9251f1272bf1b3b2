-- Histograms of the problems of an iteration, or of all of a run: a row per figure, series and bucket with any.
--
-- Parameters: run_id, iteration (null: all), buckets (per histogram). Bucket 0 begins at 0 and the last one ends at
-- `upper`. The figures: accuracy and process_quality by level; pairs, where the bucket is the number of pairs.
WITH
chosen AS (
    SELECT id FROM rounds
    WHERE id IN (SELECT rounds_of(:run_id)) AND kind = 'iteration' AND (CAST(:iteration AS integer) IS NULL OR number = :iteration)
),
labels AS (
    SELECT level, accuracy, process_quality FROM difficulty_labels WHERE round_id IN (SELECT id FROM chosen)
),
paired AS (
    SELECT count(*) AS pairs
    FROM preference_pairs
    WHERE round_id IN (SELECT id FROM chosen)
    GROUP BY round_id, problem_id
),
placed AS (
    SELECT 'accuracy' AS figure, level AS series, width_bucket(accuracy, 0, 1, :buckets) AS bucket, 1.0 AS upper
    FROM labels
    UNION ALL
    SELECT 'process_quality', level, width_bucket(process_quality, 0, 1, :buckets), 1.0
    FROM labels
    WHERE process_quality IS NOT NULL
    UNION ALL
    SELECT 'pairs', 'pairs', least(pairs, :buckets), :buckets
    FROM paired
)
SELECT
    figure,
    series,
    CAST(least(bucket, :buckets) - 1 AS integer) AS bucket,
    CAST(upper AS double precision) AS upper,
    count(*) AS number
FROM placed
GROUP BY figure, series, 3, upper
ORDER BY figure, series, 3
