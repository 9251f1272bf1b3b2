-- A row per sample of an iteration: its address, its verdict and reward, its origin.
CREATE VIEW sample_facts AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    CASE WHEN samples.slot < iterations.pre_samples THEN 'pre' ELSE 're' END AS phase,
    difficulty_labels.level AS difficulty,
    samples.verdict,
    samples.cause,
    samples.cause_detail,
    samples.min_reward,
    samples.tokens,
    samples.finish_reason,
    models.name AS model,
    samples.worker,
    samples.created_at,
    samples.cumulative_logprob,
    samples.seed,
    samples.engine,
    samples.milliseconds,
    samples.text_hash,
    samples.id AS sample_id
FROM samples
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
LEFT JOIN models ON models.id = samples.model_id
LEFT JOIN difficulty_labels USING (round_id, problem_id);
