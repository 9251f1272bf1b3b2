-- How an iteration spreads its problems and its budget over the levels, a row per level. Parameters: run_id, iteration.
--
-- Problems without a label yet have the level `unlabelled`. re_samples are those that are allotted beyond pre-samples.
WITH
paired AS (
    SELECT preference_pairs.round_id, problem_id, count(*) AS pairs
    FROM preference_pairs
    JOIN rounds ON rounds.id = preference_pairs.round_id
    WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND rounds.number = :iteration
    GROUP BY preference_pairs.round_id, problem_id
)
SELECT
    coalesce(labels.level, 'unlabelled') AS level,
    count(*) AS problems,
    CAST(sum(greatest(0, sliced.allotment - iterations.pre_samples)) AS bigint) AS re_samples,
    CAST(coalesce(sum(paired.pairs), 0) AS bigint) AS pairs,
    count(paired.pairs) AS problems_with_pair
FROM rounds
JOIN iterations ON iterations.round_id = rounds.id
JOIN round_problems AS sliced ON sliced.round_id = rounds.id AND sliced.exclusion IS NULL
LEFT JOIN difficulty_labels AS labels ON labels.round_id = rounds.id AND labels.problem_id = sliced.problem_id
LEFT JOIN paired ON paired.round_id = rounds.id AND paired.problem_id = sliced.problem_id
WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND rounds.kind = 'iteration' AND rounds.number = :iteration
GROUP BY 1
