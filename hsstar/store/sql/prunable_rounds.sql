-- The rounds that were done before a moment and whose texts can go: nothing that is under way reads them.
--
-- Parameters: before, run_id (null for every run).
SELECT rounds.id AS round_id, runs.name AS run, rounds.kind, rounds.number, rounds.evaluation_key
FROM rounds
JOIN runs ON runs.id = rounds.run_id
-- what a source drew is read until its iteration is done
LEFT JOIN source_rounds ON source_rounds.round_id = rounds.id
LEFT JOIN rounds AS sampled
    ON rounds.kind = 'source'
    AND sampled.kind = 'iteration'
    AND sampled.run_id = rounds.run_id
    AND sampled.number = rounds.number
LEFT JOIN iterations ON iterations.round_id = coalesce(sampled.id, rounds.id)
LEFT JOIN evaluations ON evaluations.round_id = rounds.id
LEFT JOIN step_rounds ON step_rounds.round_id = rounds.id
WHERE coalesce(iterations.finished_at, evaluations.finished_at, step_rounds.finished_at) < :before
  AND (source_rounds.round_id IS NULL OR source_rounds.finished_at IS NOT NULL)
  AND (CAST(:run_id AS bigint) IS NULL OR runs.id = :run_id)
  AND NOT EXISTS (
      SELECT FROM rounds AS continuing
      JOIN step_rounds AS labelling ON labelling.round_id = continuing.id
      WHERE continuing.run_id = rounds.run_id
        AND continuing.number = rounds.number
        AND rounds.kind = 'iteration'
        AND labelling.finished_at IS NULL
  )
ORDER BY rounds.id
