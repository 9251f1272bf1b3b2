-- A row per trained policy, layer and number format: what the training changed, and what the format shows of it.
CREATE VIEW weight_updates AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    models.name AS model,
    layer_updates.layer,
    layer_updates.format,
    layer_updates.format IS NOT DISTINCT FROM training_runs.sampled_as AS sampled,
    layer_updates.weights,
    layer_updates.norm,
    layer_updates.changed,
    layer_updates.kept,
    layer_updates.cosine
FROM layer_updates
JOIN training_runs ON training_runs.id = layer_updates.training_run_id
JOIN models ON models.id = training_runs.output_model_id
JOIN rounds ON rounds.id = training_runs.round_id
JOIN runs ON runs.id = rounds.run_id;
