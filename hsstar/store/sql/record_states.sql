-- Records what a wave of the allocation knows of some problems: their samples so far, which are all there.
--
-- Parameters: round_id, wave, problem_ids. A second run changes nothing.
INSERT INTO allocations (round_id, wave, problem_id, correct, incorrect, drawn)
SELECT
    round_id,
    :wave,
    problem_id,
    count(*) FILTER (WHERE verdict = 'correct' AND slot < allotment),
    count(*) FILTER (WHERE verdict = 'incorrect' AND slot < allotment),
    count(*) FILTER (WHERE slot < allotment)
FROM round_problems
LEFT JOIN (
    SELECT problem_id, slot, verdict FROM samples
    WHERE round_id = :round_id
      AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
      -- lest the samples beyond all allotments be read, which an import may have brought
      AND slot < (
          SELECT max(allotment) FROM round_problems
          WHERE round_id = :round_id AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
      )
) AS samples USING (problem_id)
WHERE round_id = :round_id
  AND exclusion IS NULL
  AND problem_id = ANY (CAST(:problem_ids AS bigint[]))
GROUP BY round_id, problem_id
ON CONFLICT DO NOTHING
