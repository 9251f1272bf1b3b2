-- Decides that a run's webhook is told of an event, if its recipe asks for that. Parameters: run_id, event, detail.
--
-- Of failures at most one waits.
INSERT INTO notifications (run_id, event, detail)
SELECT id, :event, :detail
FROM runs
WHERE id = :run_id AND recipe -> 'notify' -> 'on' @> to_jsonb(CAST(:event AS text))
ON CONFLICT (run_id) WHERE event = 'failed' AND sent_at IS NULL DO NOTHING
