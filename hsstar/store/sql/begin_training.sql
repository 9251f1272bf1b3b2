-- Records an attempt at a training: updates the unfinished record of the round, or inserts one; returns its id.
--
-- Parameters: the columns that it writes. What an earlier attempt recorded beside them stays.
WITH
updated AS (
    UPDATE training_runs
    SET job_id = :job_id,
        model_id = :model_id,
        objective = :objective,
        settings = CAST(:settings AS jsonb),
        pairs = :pairs,
        item_ids = CAST(:item_ids AS bigint[])
    WHERE round_id = :round_id AND finished_at IS NULL
    RETURNING id
),
inserted AS (
    INSERT INTO training_runs (round_id, job_id, model_id, objective, settings, pairs, item_ids)
    SELECT
        :round_id, :job_id, :model_id, :objective, CAST(:settings AS jsonb), :pairs, CAST(:item_ids AS bigint[])
    WHERE NOT EXISTS (SELECT FROM updated)
    RETURNING id
)
SELECT id FROM updated UNION ALL SELECT id FROM inserted
