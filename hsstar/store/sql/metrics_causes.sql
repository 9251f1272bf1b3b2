-- The verdict causes in the newest iteration of each run. Parameters: run_ids, within (seconds since its end).
--
-- It reads the samples of those iterations, so one that ended longer ago is left out.
WITH
newest AS (
    SELECT DISTINCT ON (rounds.run_id) rounds.id, runs.name AS run, iterations.finished_at
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    JOIN iterations ON iterations.round_id = rounds.id
    WHERE rounds.run_id = ANY (:run_ids) AND iterations.started_at IS NOT NULL
    ORDER BY rounds.run_id, rounds.number DESC
)
SELECT newest.run, samples.cause, count(*) AS samples
FROM newest
JOIN samples ON samples.round_id = newest.id
WHERE samples.cause IS NOT NULL
  AND coalesce(newest.finished_at, now()) > now() - make_interval(secs => :within)
GROUP BY newest.run, samples.cause
ORDER BY newest.run, samples.cause
