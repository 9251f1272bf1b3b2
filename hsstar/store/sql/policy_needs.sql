-- The policies that runs have trained, each with what needs its checkpoint; null if nothing does.
--
-- A run needs the policy that it begins with and the last one that it has, and each round its policy until it is done:
-- until then an iteration has samples to draw or pairs to train on. An adapter that is needed, or that no run has
-- trained, needs its base. No parameters.
WITH
last AS (
    SELECT DISTINCT ON (rounds.run_id) rounds.run_id, iterations.output_model_id AS model_id
    FROM rounds
    JOIN iterations ON iterations.round_id = rounds.id
    WHERE iterations.output_model_id IS NOT NULL
    ORDER BY rounds.run_id, rounds.number DESC
),
direct AS (
    SELECT model_id, 'run ' || name || ' begins with it' AS reason FROM runs
    UNION ALL
    SELECT run_sources.model_id, 'run ' || runs.name || ' has it as the source ' || run_sources.name
    FROM run_sources
    JOIN runs ON runs.id = run_sources.run_id
    UNION ALL
    SELECT last.model_id, 'run ' || runs.name || ' continues from it'
    FROM last
    JOIN runs ON runs.id = last.run_id
    UNION ALL
    SELECT rounds.model_id, rounds.kind || ' ' || rounds.number || ' of run ' || runs.name || ' is not done'
    FROM rounds
    JOIN round_states ON round_states.round_id = rounds.id
    JOIN runs ON runs.id = rounds.run_id
    WHERE round_states.state <> 'done'
),
needs AS (
    SELECT model_id, reason FROM direct
    UNION ALL
    SELECT bases.id, 'the adapter ' || adapters.name || ' is on it'
    FROM models AS adapters
    JOIN models AS bases ON bases.location = adapters.base
    WHERE
        adapters.id IN (SELECT model_id FROM direct)
        OR NOT EXISTS (SELECT FROM training_runs WHERE output_model_id = adapters.id)
)
SELECT
    models.name,
    models.location,
    (SELECT string_agg(DISTINCT reason, '; ' ORDER BY reason) FROM needs WHERE needs.model_id = models.id) AS needed_by
FROM models
WHERE EXISTS (SELECT FROM training_runs WHERE output_model_id = models.id)
ORDER BY models.id
