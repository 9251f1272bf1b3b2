-- Whether a round has a sample of a verdict that may be learnt from without a pair: a row, or none.
--
-- Parameters: round_id, verdict, levels, cut (leave-out | keep), and one array per column of the sources that are learnt
-- from, as in example.sql.
SELECT
FROM samples
JOIN difficulty_labels AS labels ON labels.round_id = :round_id AND labels.problem_id = samples.problem_id
JOIN round_problems
    ON round_problems.round_id = :round_id AND round_problems.problem_id = samples.problem_id
LEFT JOIN unnest(
    CAST(:source_ids AS bigint[]), CAST(:source_names AS text[]), CAST(:source_rejects AS boolean[])
) AS sources (round_id, source, rejects)
    ON sources.round_id = samples.round_id
WHERE samples.round_id = ANY (CAST(:round_id AS bigint) || CAST(:source_ids AS bigint[]))
  AND samples.verdict = :verdict
  AND (samples.verdict = 'correct' OR coalesce(sources.rejects, true))
  AND labels.level = ANY (CAST(:levels AS text[]))
  AND round_problems.exclusion IS NULL
  AND (:cut = 'keep' OR samples.verdict <> 'correct' OR samples.finish_reason IS DISTINCT FROM 'length')
LIMIT 1
