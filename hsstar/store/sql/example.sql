-- The samples of a round to learn from without pairs, in a fixed order: correct ones (supervised fine-tuning by
-- rejection sampling), or correct and incorrect ones (KTO).
--
-- SQL twin of `select_examples` in domain/preference.py. Parameters: round_id, verdicts, levels, rule
-- (highest-reward | random), at_most (per problem and verdict; null for no limit), cut (leave-out | keep: correct
-- responses that were cut at their token limit), seed, iteration.
WITH
candidates AS (
    SELECT
        samples.id,
        samples.problem_id,
        samples.slot,
        samples.verdict,
        round_problems.position,
        samples.text_hash,
        CASE WHEN :rule = 'highest-reward' THEN coalesce(samples.pair_reward, samples.min_reward, 0) END AS reward,
        CASE WHEN :rule = 'random' THEN sha256(convert_to(
            concat_ws(':', CAST(:seed AS bigint), 'keep', CAST(:iteration AS int), problems.key, samples.slot),
            'UTF8'
        )) END AS place
    FROM samples
    JOIN difficulty_labels AS labels USING (round_id, problem_id)
    JOIN round_problems USING (round_id, problem_id)
    JOIN problems ON problems.id = samples.problem_id
    WHERE round_id = :round_id
      AND samples.verdict = ANY (CAST(:verdicts AS text[]))
      AND (:cut = 'keep' OR samples.verdict <> 'correct' OR samples.finish_reason IS DISTINCT FROM 'length')
      AND labels.level = ANY (CAST(:levels AS text[]))
      AND round_problems.exclusion IS NULL
),
-- each text once: of equal texts the sample that ranks first
different AS (
    SELECT DISTINCT ON (problem_id, verdict, text_hash) *
    FROM candidates
    ORDER BY problem_id, verdict, text_hash, reward DESC, place, slot
),
ranked AS (
    SELECT
        id,
        position,
        verdict,
        row_number() OVER (PARTITION BY problem_id, verdict ORDER BY reward DESC, place, slot) AS rank
    FROM different
)
SELECT id FROM ranked
WHERE rank <= coalesce(CAST(:at_most AS bigint), rank)
ORDER BY position, verdict, rank
