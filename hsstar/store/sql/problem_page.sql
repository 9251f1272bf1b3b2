-- A page of the problems of some rounds, each in one row, with what the policies of these rounds made of it.
--
-- A policy solves a problem from a pass rate of one half on. Parameters: round_ids, each_once (no problem is in two of
-- them, which spares windows and groups), problem_ids (the only ones that count; null for all); problem_id, difficulty,
-- accuracy_from, accuracy_to, quality_from, quality_to, pass_from, pass_to (pass rate of the last policy), tokens_from,
-- tokens_to (mean of its samples), cause (of a sample), disagreement (overrated | underrated | any), change (learnt | forgotten | flipped | never | always), text (a
-- pattern of ILIKE); sort (problem | accuracy | quality | pass | tokens | reward | overrated | underrated | flips | pairs),
-- descending, after_key, after_problem (the last row of the page before), at_most, characters (of a statement); null is
-- no limit.
WITH
outcomes AS NOT MATERIALIZED (
    SELECT * FROM problem_outcomes
    WHERE round_id = ANY (CAST(:round_ids AS bigint[]))
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
),
by_policy AS (
    SELECT
        outcomes.*,
        lead(iteration) OVER policies IS NULL AS is_last,
        lag(pass_rate) OVER policies AS rate_before,
        lag(pass_rate) OVER policies IS NULL AND drawn > 0 AS is_first
    FROM outcomes
    WHERE NOT :each_once
    -- those that have sampled it, and those that have not
    WINDOW policies AS (PARTITION BY problem_id, drawn > 0 ORDER BY iteration, round_id)
),
by_problem AS (
    SELECT
        problem_id,
        CAST(sum(drawn) AS int) AS drawn,
        CAST(sum(correct) AS int) AS correct,
        CAST(sum(undecided) AS int) AS undecided,
        CAST(sum(overrated) AS int) AS overrated,
        CAST(sum(underrated) AS int) AS underrated,
        CAST(sum(cut) AS int) AS cut,
        CAST(sum(pairs) AS int) AS pairs,
        sum(mean_tokens * drawn) / nullif(sum(drawn) FILTER (WHERE mean_tokens IS NOT NULL), 0) AS mean_tokens,
        max(mean_reward) FILTER (WHERE is_last) AS mean_reward,
        max(difficulty) FILTER (WHERE is_last) AS difficulty,
        max(accuracy) FILTER (WHERE is_last) AS accuracy,
        max(process_quality) FILTER (WHERE is_last) AS process_quality,
        max(pass_rate) FILTER (WHERE is_first) AS first_rate,
        max(pass_rate) FILTER (WHERE is_last) AS pass_rate,
        min(pass_rate) AS least_rate,
        CAST(count(*) FILTER (WHERE (pass_rate >= 0.5) <> (rate_before >= 0.5)) AS int) AS flips,
        bool_or(CAST(:cause AS text) = ANY (causes)) AS has_cause
    FROM by_policy
    GROUP BY problem_id
    UNION ALL
    SELECT
        problem_id, drawn, correct, undecided, overrated, underrated, cut, pairs, mean_tokens, mean_reward, difficulty,
        accuracy, process_quality, pass_rate, pass_rate, pass_rate, 0, CAST(:cause AS text) = ANY (causes)
    FROM outcomes
    WHERE :each_once
),
sorted AS (
    SELECT
        by_problem.*,
        -- whatever the order, what is not known comes last
        coalesce(
            CASE WHEN :descending THEN -1 ELSE 1 END * CASE :sort
                WHEN 'accuracy' THEN accuracy
                WHEN 'quality' THEN process_quality
                WHEN 'pass' THEN pass_rate
                WHEN 'tokens' THEN mean_tokens
                WHEN 'reward' THEN mean_reward
                WHEN 'overrated' THEN overrated
                WHEN 'underrated' THEN underrated
                WHEN 'flips' THEN flips
                WHEN 'pairs' THEN pairs
                ELSE 0
            END,
            CAST('Infinity' AS double precision)
        ) AS sort_key
    FROM by_problem
),
passing AS (
    SELECT *
    FROM sorted
    WHERE (CAST(:problem_id AS bigint) IS NULL OR problem_id = :problem_id)
      AND (CAST(:difficulty AS text) IS NULL OR difficulty = :difficulty)
      AND (CAST(:accuracy_from AS double precision) IS NULL OR accuracy >= :accuracy_from)
      AND (CAST(:accuracy_to AS double precision) IS NULL OR accuracy <= :accuracy_to)
      AND (CAST(:quality_from AS double precision) IS NULL OR process_quality >= :quality_from)
      AND (CAST(:quality_to AS double precision) IS NULL OR process_quality <= :quality_to)
      AND (CAST(:pass_from AS double precision) IS NULL OR pass_rate >= :pass_from)
      AND (CAST(:pass_to AS double precision) IS NULL OR pass_rate <= :pass_to)
      AND (CAST(:tokens_from AS double precision) IS NULL OR mean_tokens >= :tokens_from)
      AND (CAST(:tokens_to AS double precision) IS NULL OR mean_tokens <= :tokens_to)
      AND (CAST(:cause AS text) IS NULL OR has_cause)
      AND (
          CAST(:disagreement AS text) IS NULL
          OR :disagreement IN ('overrated', 'any') AND overrated > 0
          OR :disagreement IN ('underrated', 'any') AND underrated > 0
      )
      AND CASE CAST(:change AS text)
          WHEN 'learnt' THEN first_rate < 0.5 AND pass_rate >= 0.5
          WHEN 'forgotten' THEN first_rate >= 0.5 AND pass_rate < 0.5
          WHEN 'flipped' THEN flips > 0
          WHEN 'never' THEN drawn > 0 AND correct = 0
          WHEN 'always' THEN least_rate >= 0.5
          ELSE true
      END
      AND (
          CAST(:text AS text) IS NULL
          OR problem_id IN (SELECT problems.id FROM problems WHERE statement ILIKE :text)
      )
      AND (
          CAST(:after_problem AS bigint) IS NULL
          OR (sort_key, problem_id) > (CAST(:after_key AS double precision), CAST(:after_problem AS bigint))
      )
    ORDER BY sort_key, problem_id
    LIMIT :at_most
)
SELECT
    passing.problem_id,
    left(problems.statement, coalesce(CAST(:characters AS int), 2147483647)) AS statement,
    problems.reference_answer AS reference,
    problems.subject,
    problems.level AS source_level,
    passing.difficulty AS level,
    passing.accuracy,
    passing.process_quality,
    passing.pass_rate,
    passing.mean_reward,
    passing.mean_tokens,
    passing.drawn,
    passing.correct,
    passing.undecided,
    passing.overrated,
    passing.underrated,
    passing.cut,
    passing.pairs,
    passing.flips,
    history.policies,
    history.pass_rates,
    history.levels,
    causes.causes,
    left_out.exclusion,
    passing.sort_key
FROM passing
JOIN problems ON problems.id = passing.problem_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(iteration ORDER BY iteration, round_id), '{}') AS policies,
        coalesce(array_agg(pass_rate ORDER BY iteration, round_id), '{}') AS pass_rates,
        coalesce(array_agg(difficulty ORDER BY iteration, round_id), '{}') AS levels
    FROM problem_outcomes
    WHERE round_id = ANY (CAST(:round_ids AS bigint[])) AND problem_id = passing.problem_id AND drawn > 0
) AS history
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(DISTINCT cause ORDER BY cause), '{}') AS causes
    FROM samples
    WHERE samples.round_id = ANY (CAST(:round_ids AS bigint[]))
      AND samples.problem_id = passing.problem_id
      AND cause IS NOT NULL
) AS causes
CROSS JOIN LATERAL (
    SELECT max(exclusion) AS exclusion
    FROM round_problems
    WHERE round_id = ANY (CAST(:round_ids AS bigint[])) AND problem_id = passing.problem_id
) AS left_out
ORDER BY passing.sort_key, passing.problem_id
