-- The labelled problems of each run's newest iteration that has any, by difficulty level. Parameter: run_ids.
WITH
newest AS (
    SELECT DISTINCT ON (rounds.run_id) rounds.id, runs.name AS run
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    WHERE rounds.run_id = ANY (:run_ids)
      AND EXISTS (SELECT FROM difficulty_labels WHERE difficulty_labels.round_id = rounds.id)
    ORDER BY rounds.run_id, rounds.number DESC
)
SELECT newest.run, difficulty_labels.level, count(*) AS problems
FROM newest
JOIN difficulty_labels ON difficulty_labels.round_id = newest.id
GROUP BY newest.run, difficulty_labels.level
ORDER BY newest.run, difficulty_labels.level
