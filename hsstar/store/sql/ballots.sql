-- The verified samples of those problems of a job on which its evaluation lacks a vote, with the hash of all of them.
-- Parameters: round_id, job_id.
WITH complete AS (
    SELECT
        samples.problem_id,
        bit_xor(hashtextextended(concat_ws(' ', samples.slot, samples.verdict, samples.answer), 0)) AS ballot
    FROM evaluations
    JOIN round_problems USING (round_id)
    JOIN job_items ON job_items.problem_id = round_problems.problem_id
    JOIN samples
        ON samples.round_id = evaluations.round_id
        AND samples.problem_id = round_problems.problem_id
        AND samples.cause IS NOT NULL
    LEFT JOIN majority_votes AS vote
        ON vote.round_id = samples.round_id AND vote.problem_id = samples.problem_id
    WHERE evaluations.round_id = :round_id AND evaluations.samples > 1
      AND job_items.job_id = :job_id
    GROUP BY samples.problem_id, allotment, exclusion, vote.ballot
    HAVING count(*) > 1
       AND vote.ballot IS DISTINCT FROM bit_xor(hashtextextended(concat_ws(' ', samples.slot, samples.verdict, samples.answer), 0))
       AND (count(*) >= allotment OR exclusion IS NOT NULL)
)
SELECT problem_id, ballot, answer, coalesce(verdict = 'correct', false) AS correct
FROM samples JOIN complete USING (problem_id)
WHERE round_id = :round_id AND cause IS NOT NULL
ORDER BY problem_id, slot
