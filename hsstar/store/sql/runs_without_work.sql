-- The runs that the conductor has to look at: a round is not done and has no queued or running job.
--
-- An iteration that waits for the policy of an earlier one does not count, nor does a round in which no job has ended
-- since it was last found to wait for something else. A held run has none.
SELECT DISTINCT rounds.run_id
FROM rounds
JOIN round_states ON round_states.round_id = rounds.id
JOIN runs ON runs.id = rounds.run_id
WHERE round_states.state <> 'done'
  AND runs.held IS NULL
  AND NOT EXISTS (
      SELECT FROM jobs WHERE jobs.round_id = rounds.id AND jobs.state IN ('queued', 'running')
  )
  AND (rounds.looked_at IS NULL OR EXISTS (
      SELECT FROM jobs WHERE jobs.round_id = rounds.id AND jobs.finished_at >= rounds.looked_at
  ))
  AND NOT (round_states.state = 'waiting' AND EXISTS (
      SELECT FROM rounds AS earlier
      JOIN iterations AS before ON before.round_id = earlier.id
      WHERE earlier.run_id = rounds.run_id
        AND earlier.number < rounds.number
        AND before.output_model_id IS NULL
  ))
ORDER BY rounds.run_id
