-- Deletes the responses and step rewards of a round's samples, except those that are kept; returns how many, and bytes.
--
-- Verdicts, minimum rewards, answers and token counts stay on the samples. Parameters: round_id, keep_pairs (the texts
-- that were trained on, as pairs or as examples), keep_correct, dry_run (only count).
WITH
-- the round, and of a source the iteration that learns from it
learning AS (
    SELECT CAST(:round_id AS bigint) AS round_id
    UNION
    SELECT iteration.id
    FROM rounds
    JOIN rounds AS iteration USING (run_id, number)
    WHERE rounds.id = :round_id AND rounds.kind = 'source' AND iteration.kind = 'iteration'
),
trained AS (
    SELECT chosen_sample_id AS id FROM preference_pairs JOIN learning USING (round_id) WHERE :keep_pairs
    UNION
    SELECT rejected_sample_id FROM preference_pairs JOIN learning USING (round_id) WHERE :keep_pairs
    UNION
    SELECT unnest(item_ids) FROM training_runs JOIN learning USING (round_id)
    WHERE objective IN ('sft', 'kto') AND :keep_pairs
),
doomed AS (
    SELECT samples.id, octet_length(response) AS bytes
    FROM samples
    JOIN sample_responses ON sample_responses.sample_id = samples.id
    WHERE samples.round_id = :round_id
      AND NOT (:keep_correct AND samples.verdict IS NOT DISTINCT FROM 'correct')
      AND samples.id NOT IN (SELECT id FROM trained)
),
texts AS (
    DELETE FROM sample_responses WHERE NOT :dry_run AND sample_id IN (SELECT id FROM doomed)
),
step_rewards AS (
    DELETE FROM rewards WHERE NOT :dry_run AND sample_id IN (SELECT id FROM doomed)
),
noted AS (
    UPDATE rounds SET texts_pruned = texts_pruned + (SELECT count(*) FROM doomed) WHERE NOT :dry_run AND id = :round_id
)
SELECT count(*) AS samples, coalesce(sum(bytes), 0) AS bytes FROM doomed
