-- The policies that a run has trained and that nothing else needs: no other run, no round of one, no descendant of theirs,
-- no adapter on one.
--
-- Parameter: run_id.
WITH RECURSIVE
own AS (
    SELECT id FROM rounds WHERE run_id = :run_id
),
trained AS (
    SELECT DISTINCT output_model_id AS id
    FROM training_runs
    WHERE round_id IN (SELECT id FROM own) AND output_model_id IS NOT NULL
),
needed AS (
    SELECT model_id AS id FROM runs WHERE runs.id <> :run_id
    UNION
    SELECT model_id FROM run_sources WHERE run_id <> :run_id
    UNION
    SELECT model_id FROM rounds WHERE run_id <> :run_id AND model_id IS NOT NULL
    UNION
    SELECT output_model_id FROM iterations
    WHERE round_id NOT IN (SELECT id FROM own) AND output_model_id IS NOT NULL
    UNION
    SELECT parent_id FROM models WHERE id NOT IN (SELECT id FROM trained) AND parent_id IS NOT NULL
    UNION
    SELECT bases.id
    FROM models AS adapters
    JOIN models AS bases ON bases.location = adapters.base
    WHERE adapters.id NOT IN (SELECT id FROM trained)
),
line AS (
    SELECT id FROM needed
    UNION
    SELECT models.parent_id FROM line JOIN models ON models.id = line.id WHERE models.parent_id IS NOT NULL
)
SELECT models.id, models.name, models.location, models.fingerprint, parents.name AS parent, models.base
FROM models
LEFT JOIN models AS parents ON parents.id = models.parent_id
WHERE models.id IN (SELECT id FROM trained) AND models.id NOT IN (SELECT id FROM line)
ORDER BY models.id
