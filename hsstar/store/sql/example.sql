-- The samples of a round to learn from without pairs, in a fixed order: correct ones (supervised fine-tuning by
-- rejection sampling), or correct and incorrect ones (KTO).
--
-- SQL twin of `select_examples` in domain/preference.py. Parameters: round_id, verdicts, levels, rule
-- (highest-reward | random), at_most (per problem and verdict; null for no limit), cut (leave-out | keep: correct
-- responses that were cut at their token limit), seed, iteration, and one array per column of `sources`: the rounds of
-- the sources that are learnt from.
WITH
-- without one: of the policy itself
sources AS (
    SELECT * FROM unnest(
        CAST(:source_ids AS bigint[]), CAST(:source_names AS text[]), CAST(:source_rejects AS boolean[])
    ) AS sources (round_id, source, rejects)
),
candidates AS (
    SELECT
        samples.id,
        samples.problem_id,
        samples.slot,
        coalesce(sources.source, '') COLLATE "C" AS source,
        samples.verdict,
        round_problems.position,
        samples.text_hash,
        CASE WHEN :rule = 'highest-reward' THEN coalesce(samples.pair_reward, samples.min_reward, 0) END AS reward,
        CASE WHEN :rule = 'random' THEN sha256(convert_to(
            concat_ws(
                ':', CAST(:seed AS bigint), 'keep', CAST(:iteration AS int), problems.key, samples.slot, sources.source
            ),
            'UTF8'
        )) END AS place
    FROM samples
    JOIN difficulty_labels AS labels ON labels.round_id = :round_id AND labels.problem_id = samples.problem_id
    JOIN round_problems
        ON round_problems.round_id = :round_id AND round_problems.problem_id = samples.problem_id
    JOIN problems ON problems.id = samples.problem_id
    LEFT JOIN sources ON sources.round_id = samples.round_id
    WHERE samples.round_id = ANY (CAST(:round_id AS bigint) || CAST(:source_ids AS bigint[]))
      AND samples.verdict = ANY (CAST(:verdicts AS text[]))
      AND (samples.verdict = 'correct' OR coalesce(sources.rejects, true))
      AND (:cut = 'keep' OR samples.verdict <> 'correct' OR samples.finish_reason IS DISTINCT FROM 'length')
      AND labels.level = ANY (CAST(:levels AS text[]))
      AND round_problems.exclusion IS NULL
),
-- each text once: of equal texts the sample that ranks first
different AS (
    SELECT DISTINCT ON (problem_id, verdict, text_hash) *
    FROM candidates
    ORDER BY problem_id, verdict, text_hash, reward DESC, place, slot, source
),
ranked AS (
    SELECT
        id,
        position,
        verdict,
        row_number() OVER (PARTITION BY problem_id, verdict ORDER BY reward DESC, place, slot, source) AS rank
    FROM different
)
SELECT id FROM ranked
WHERE rank <= coalesce(CAST(:at_most AS bigint), rank)
ORDER BY position, verdict, rank
