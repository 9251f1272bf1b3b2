-- Builds the preference pairs of a round from the problems of the trained levels (METHOD step 6).
--
-- SQL twin of `select_pairs` in domain/preference.py. Parameters: round_id, problem_ids (only these; null for all),
-- levels, rule (highest-reward | random), at_most (pairs per problem; null for no limit), distinct (of pairs with the
-- same texts the first), length (any | match), cut (leave-out | keep: chosen responses that were cut at their token
-- limit), seed, iteration, and one array per column of `sources`: the rounds of the sources that are learnt from. A
-- second run adds nothing.
WITH
-- of every table the rows of these problems, lest each batch reads all of them
chosen AS (
    SELECT problems.id AS problem_id, problems.key
    FROM round_problems
    JOIN difficulty_labels AS labels USING (round_id, problem_id)
    JOIN problems ON problems.id = labels.problem_id
    WHERE round_id = :round_id
      AND labels.level = ANY (CAST(:levels AS text[]))
      AND round_problems.exclusion IS NULL
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR (
          round_problems.problem_id = ANY (CAST(:problem_ids AS bigint[]))
          AND labels.problem_id = ANY (CAST(:problem_ids AS bigint[]))
          AND problems.id = ANY (CAST(:problem_ids AS bigint[]))
      ))
),
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
        samples.verdict,
        samples.slot,
        coalesce(sources.source, '') COLLATE "C" AS source,
        samples.text_hash,
        coalesce(samples.tokens, 0) AS tokens,
        CASE WHEN :rule = 'highest-reward' THEN coalesce(samples.pair_reward, samples.min_reward, 0) END AS reward,
        concat_ws(':', CAST(:iteration AS int), chosen.key, samples.slot, sources.source) AS address
    FROM samples
    JOIN chosen USING (problem_id)
    LEFT JOIN sources USING (round_id)
    WHERE samples.round_id = ANY (CAST(:round_id AS bigint) || CAST(:source_ids AS bigint[]))
      AND (samples.verdict = 'correct' OR samples.verdict = 'incorrect' AND coalesce(sources.rejects, true))
      AND (:cut = 'keep' OR samples.verdict <> 'correct' OR samples.finish_reason IS DISTINCT FROM 'length')
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR samples.problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
ranked AS (
    SELECT
        candidates.*,
        row_number() OVER (
            PARTITION BY problem_id, verdict
            ORDER BY
                reward DESC,
                CASE WHEN :rule = 'random'
                    THEN sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'keep', address), 'UTF8'))
                END,
                slot,
                source
        ) AS rank,
        count(*) FILTER (WHERE verdict = 'correct') OVER (PARTITION BY problem_id) AS correct,
        count(*) FILTER (WHERE verdict = 'incorrect') OVER (PARTITION BY problem_id) AS incorrect
    FROM candidates
),
-- for match: of the rejected ones those whose tokens are closest to the mean of the chosen ones
aimed AS (
    SELECT
        ranked.*,
        least(correct, incorrect, CAST(:at_most AS bigint)) AS most,
        sum(tokens) FILTER (
            WHERE verdict = 'correct' AND rank <= least(correct, incorrect, CAST(:at_most AS bigint))
        ) OVER (PARTITION BY problem_id) AS aim
    FROM ranked
    WHERE :length = 'match'
),
closest AS (
    SELECT
        aimed.*,
        row_number() OVER (
            PARTITION BY problem_id, verdict
            ORDER BY CASE WHEN verdict = 'incorrect' THEN abs(tokens * most - aim) END, rank
        ) AS nearness
    FROM aimed
),
-- the first K = min(#correct, #incorrect) of each side
kept AS (
    SELECT id, problem_id, verdict, text_hash, address, 0 AS tokens
    FROM ranked
    WHERE :length = 'any' AND rank <= least(correct, incorrect, CAST(:at_most AS bigint))
    UNION ALL
    SELECT id, problem_id, verdict, text_hash, address, tokens
    FROM closest
    WHERE nearness <= most
),
-- in the run's seeded shuffle, for match in the order of their lengths
shuffled AS (
    SELECT
        id,
        problem_id,
        verdict,
        text_hash,
        row_number() OVER (
            PARTITION BY problem_id, verdict
            ORDER BY
                tokens,
                sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'match', address), 'UTF8'))
        ) AS place
    FROM kept
),
matched AS (
    SELECT
        problem_id,
        place,
        max(id) FILTER (WHERE verdict = 'correct') AS chosen,
        max(id) FILTER (WHERE verdict = 'incorrect') AS rejected,
        max(text_hash) FILTER (WHERE verdict = 'correct') AS chosen_text,
        max(text_hash) FILTER (WHERE verdict = 'incorrect') AS rejected_text
    FROM shuffled
    GROUP BY problem_id, place
),
compared AS (
    SELECT
        matched.*,
        row_number() OVER (PARTITION BY problem_id, chosen_text, rejected_text ORDER BY place) > 1 AS repeated
    FROM matched
)
INSERT INTO preference_pairs (round_id, problem_id, chosen_sample_id, rejected_sample_id, repeated)
SELECT :round_id, problem_id, chosen, rejected, repeated
FROM compared
WHERE NOT (repeated AND :distinct)
ORDER BY problem_id, place
ON CONFLICT DO NOTHING
