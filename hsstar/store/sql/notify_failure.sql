-- Decides that a run's webhook is told of a failed job, if its recipe asks for that and no other job has failed.
--
-- Parameters: job_id, error. At most one such notification waits.
INSERT INTO notifications (run_id, event, detail)
SELECT runs.id, 'failed', jobs.kind || ' job ' || jobs.id || ': ' || CAST(:error AS text)
FROM jobs
JOIN rounds ON rounds.id = jobs.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE jobs.id = :job_id
  AND runs.recipe -> 'notify' -> 'on' @> '"failed"'
  AND NOT EXISTS (
      SELECT FROM jobs AS other
      JOIN rounds AS others ON others.id = other.round_id
      WHERE others.run_id = runs.id AND other.state = 'failed' AND other.id <> jobs.id
  )
ON CONFLICT (run_id) WHERE event = 'failed' AND sent_at IS NULL DO NOTHING
