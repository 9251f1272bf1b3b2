-- The labelled problems of an iteration by what its thresholds look at, in hundredths of process quality.
--
-- Of a row: right (accuracy of the pre-samples: all | none | some), below and above (process quality in hundredths,
-- rounded down and up; null without rewards), problems, pairs (that their samples so far allow). As quality < k / 100
-- exactly if below < k, and quality > k / 100 exactly if above > k, these decide every threshold of two decimals.
-- Parameters: run_id, iteration, at_most (pairs per problem; null for no limit).
SELECT
    CASE accuracy WHEN 1 THEN 'all' WHEN 0 THEN 'none' ELSE 'some' END AS "right",
    CAST(floor(CAST(process_quality AS numeric) * 100) AS int) AS below,
    CAST(ceil(CAST(process_quality AS numeric) * 100) AS int) AS above,
    CAST(count(*) AS int) AS problems,
    CAST(sum(least(correct, drawn - undecided - correct, CAST(:at_most AS bigint))) AS int) AS pairs
FROM problem_outcomes
JOIN rounds ON rounds.id = round_id
WHERE round_id IN (SELECT rounds_of(:run_id))
  AND kind = 'iteration'
  AND number = :iteration
  AND difficulty IS NOT NULL
GROUP BY 1, 2, 3
