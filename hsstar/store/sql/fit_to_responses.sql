-- Allots each problem of an evaluation the number of its external responses; excludes problems without any.
--
-- Parameters: round_id, problems and counts (two arrays: problem id, number of responses).
UPDATE round_problems
SET allotment = counted.responses,
    exclusion = coalesce(exclusion, CASE WHEN counted.responses = 0 THEN 'no response was given' END)
FROM (
    SELECT problem_id, coalesce(responses, 0) AS responses
    FROM round_problems AS assigned
    LEFT JOIN unnest(CAST(:problems AS bigint[]), CAST(:counts AS int[])) AS external (problem_id, responses)
        USING (problem_id)
    WHERE assigned.round_id = :round_id
) AS counted
WHERE round_problems.round_id = :round_id AND round_problems.problem_id = counted.problem_id
