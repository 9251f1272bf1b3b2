-- What the budget of an iteration went to: a row per wave, pre-samples (wave null) first.
--
-- tokens_chosen, tokens_rejected: sums over its samples that are one side of a pair, of `chosen` and `rejected` samples.
-- Pairs are joined, and the view's `in_a_pair` not asked for: one pass over the samples. Parameters: run_id, iteration.
WITH
drawn_in AS (
    SELECT rounds.id AS round_id, runs.name AS run
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND rounds.kind = 'iteration' AND rounds.number = :iteration
),
paired AS (
    SELECT chosen_sample_id AS sample_id, true AS is_chosen
    FROM preference_pairs
    WHERE round_id = (SELECT round_id FROM drawn_in)
    UNION ALL
    SELECT rejected_sample_id, false
    FROM preference_pairs
    WHERE round_id = (SELECT round_id FROM drawn_in)
)
SELECT
    wave,
    count(*) AS samples,
    count(*) FILTER (WHERE verdict = 'correct') AS correct,
    count(paired.sample_id) AS in_a_pair,
    avg(gain) AS gain,
    count(*) FILTER (WHERE is_chosen) AS chosen,
    coalesce(sum(tokens) FILTER (WHERE is_chosen), 0) AS tokens_chosen,
    count(*) FILTER (WHERE NOT is_chosen) AS rejected,
    coalesce(sum(tokens) FILTER (WHERE NOT is_chosen), 0) AS tokens_rejected
FROM budget_ledger
LEFT JOIN paired USING (sample_id)
WHERE iteration = :iteration AND run = (SELECT run FROM drawn_in)
GROUP BY wave
ORDER BY wave NULLS FIRST
