-- Gives problems of the re-sampled levels their shares of the remaining budget, as shares.sql has computed them.
--
-- Both together are the SQL twin of `allot` in domain/allocation/budget.py. Parameters: round_id, n_p, share, last,
-- levels, seed, iteration, problem_ids. A second run changes nothing.
UPDATE round_problems
SET allotment = :n_p + :share + CASE
        WHEN sha256(convert_to(
            concat_ws(':', CAST(:seed AS bigint), 'remainder', CAST(:iteration AS int), problems.key), 'UTF8'
        )) <= CAST(:last AS bytea) THEN 1
        ELSE 0
    END
FROM difficulty_labels AS labels
JOIN problems ON problems.id = labels.problem_id
WHERE round_problems.round_id = :round_id
  AND round_problems.exclusion IS NULL
  AND labels.round_id = round_problems.round_id
  AND labels.problem_id = round_problems.problem_id
  AND labels.problem_id = ANY (CAST(:problem_ids AS bigint[]))
  AND problems.id = ANY (CAST(:problem_ids AS bigint[]))
  AND labels.level = ANY (CAST(:levels AS text[]))
