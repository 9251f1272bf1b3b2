-- How many problems of earlier iterations of a run had each count of correct and incorrect samples.
--
-- Parameters: run_id, number (of the iteration). The age is in iterations.
WITH
ended AS (
    SELECT
        rounds.number,
        problem_id,
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        count(*) FILTER (WHERE verdict = 'incorrect') AS incorrect
    FROM rounds
    JOIN round_problems ON round_problems.round_id = rounds.id
    JOIN samples USING (round_id, problem_id)
    WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND kind = 'iteration' AND number < :number AND exclusion IS NULL
    GROUP BY rounds.number, problem_id
)
SELECT CAST(:number AS int) - number AS age, correct, incorrect, count(*) AS problems
FROM ended
GROUP BY number, correct, incorrect
ORDER BY age, correct, incorrect
