-- A row per sample that a source has drawn beside the policy: its address, its verdict and reward, what it is used for.
CREATE VIEW source_samples AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    source_rounds.source,
    run_sources.use,
    samples.problem_id,
    samples.slot,
    difficulty_labels.level AS difficulty,
    samples.verdict,
    samples.cause,
    samples.cause_detail,
    samples.min_reward,
    samples.tokens,
    samples.finish_reason,
    models.name AS model,
    CASE WHEN chosen.id IS NOT NULL THEN 'chosen' WHEN rejected.id IS NOT NULL THEN 'rejected' END AS pair,
    samples.worker,
    samples.created_at,
    samples.seed,
    samples.engine,
    samples.id AS sample_id
FROM samples
JOIN source_rounds USING (round_id)
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
JOIN run_sources ON run_sources.run_id = runs.id AND run_sources.name = source_rounds.source
JOIN models ON models.id = samples.model_id
LEFT JOIN rounds AS iteration
    ON iteration.run_id = rounds.run_id AND iteration.number = rounds.number AND iteration.kind = 'iteration'
LEFT JOIN difficulty_labels
    ON difficulty_labels.round_id = iteration.id AND difficulty_labels.problem_id = samples.problem_id
LEFT JOIN preference_pairs AS chosen ON chosen.chosen_sample_id = samples.id
LEFT JOIN preference_pairs AS rejected ON rejected.rejected_sample_id = samples.id;
