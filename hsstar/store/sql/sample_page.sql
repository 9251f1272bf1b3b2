-- A page of the samples of a run with all that is known of them, by round, problem and slot.
--
-- Reads rounds one by one and stops in each after a page, so that filters which many samples pass cost little.
-- Parameters: run_id, measure, iteration, model, problem_id, slot, verdict (correct | incorrect | none), cause, level,
-- phase (pre | re), reward_from, reward_to, disagreement (overrated | underrated | any), right_reward (from which a
-- reward says that a response is right), pair (chosen | rejected | any), text (a pattern of ILIKE), after_round,
-- after_problem, after_slot (the last sample of the page before), at_most, characters (of a response); null is no limit.
WITH
of_run AS (
    SELECT
        rounds.id,
        rounds.kind,
        rounds.run_id,
        rounds.number,
        runs.name AS run,
        coalesce(
            (
                SELECT source ->> 'thinking' FROM jsonb_array_elements(runs.recipe -> 'sources') AS source
                WHERE rounds.kind = 'source' AND source ->> 'name' = rounds.evaluation_key
            ),
            runs.recipe #>> '{policy,thinking}',
            'auto'
        ) AS thinking,
        coalesce(runs.recipe #>> '{steps,rule}', 'blank-line') AS step_rule,
        coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
        iterations.pre_samples
    FROM rounds
    JOIN runs ON runs.id = rounds.run_id
    LEFT JOIN iterations ON iterations.round_id = rounds.id
    WHERE rounds.id IN (SELECT rounds_of(:run_id))
      AND (CAST(:iteration AS int) IS NULL OR rounds.number = :iteration)
      AND (
          CAST(:measure AS text) IS NULL AND rounds.kind IN ('iteration', 'evaluation')
          OR coalesce(nullif(rounds.evaluation_key, ''), 'iteration') = :measure
      )
      AND (CAST(:after_round AS bigint) IS NULL OR rounds.id >= :after_round)
),
page AS (
    SELECT of_run.*, passing.*
    FROM of_run
    CROSS JOIN LATERAL (
        SELECT
            samples.id AS sample_id,
            samples.round_id,
            samples.problem_id,
            samples.slot,
            samples.verdict,
            samples.cause,
            samples.cause_detail,
            samples.min_reward,
            samples.tokens,
            samples.finish_reason,
            samples.cumulative_logprob,
            samples.seed,
            samples.answer,
            samples.model_id,
            samples.worker,
            samples.created_at,
            samples.engine,
            samples.milliseconds,
            samples.verifier,
            labels.level
        FROM samples
        LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
        WHERE samples.round_id = of_run.id
          AND (
              CAST(:after_round AS bigint) IS NULL OR of_run.id > :after_round
              OR (samples.problem_id, samples.slot) > (CAST(:after_problem AS bigint), CAST(:after_slot AS int))
          )
          AND (CAST(:problem_id AS bigint) IS NULL OR samples.problem_id = :problem_id)
          AND (CAST(:slot AS int) IS NULL OR samples.slot = :slot)
          AND (CAST(:verdict AS text) IS NULL OR coalesce(samples.verdict, 'none') = :verdict)
          AND (CAST(:cause AS text) IS NULL OR samples.cause = :cause)
          AND (CAST(:level AS text) IS NULL OR labels.level = :level)
          AND (CAST(:phase AS text) IS NULL OR (samples.slot < of_run.pre_samples) = (:phase = 'pre'))
          AND (CAST(:reward_from AS double precision) IS NULL OR samples.min_reward >= :reward_from)
          AND (CAST(:reward_to AS double precision) IS NULL OR samples.min_reward <= :reward_to)
          AND (
              CAST(:disagreement AS text) IS NULL
              OR :disagreement IN ('overrated', 'any')
              AND samples.verdict = 'incorrect' AND samples.min_reward >= :right_reward
              OR :disagreement IN ('underrated', 'any')
              AND samples.verdict = 'correct' AND samples.min_reward < :right_reward
          )
          AND (
              CAST(:model AS text) IS NULL
              OR samples.model_id = (SELECT models.id FROM models WHERE models.name = :model)
          )
          AND (
              CAST(:pair AS text) IS NULL
              OR :pair IN ('chosen', 'any')
              AND EXISTS (SELECT FROM preference_pairs WHERE chosen_sample_id = samples.id)
              OR :pair IN ('rejected', 'any')
              AND EXISTS (SELECT FROM preference_pairs WHERE rejected_sample_id = samples.id)
          )
          AND (
              CAST(:text AS text) IS NULL
              OR EXISTS (SELECT FROM sample_responses WHERE sample_id = samples.id AND response ILIKE :text)
              OR EXISTS (SELECT FROM problems WHERE problems.id = samples.problem_id AND statement ILIKE :text)
          )
        ORDER BY samples.problem_id, samples.slot
        LIMIT :at_most
    ) AS passing
    ORDER BY passing.round_id, passing.problem_id, passing.slot
    LIMIT :at_most
)
SELECT
    page.run,
    page.measure,
    page.number AS iteration,
    page.round_id,
    page.problem_id,
    page.slot,
    page.sample_id,
    CASE WHEN page.slot < page.pre_samples THEN 'pre' WHEN page.kind = 'iteration' THEN 're' END AS phase,
    page.level,
    problems.statement,
    problems.reference_answer AS reference,
    problems.source_id,
    left(sample_responses.response, coalesce(CAST(:characters AS int), 2147483647)) AS response,
    length(sample_responses.response) AS characters,
    page.answer,
    page.verdict,
    page.cause,
    page.cause_detail,
    page.verifier,
    page.min_reward,
    page.step_rule,
    rewards.step_rewards,
    rewards.step_spans,
    coalesce(rewards.truncated, false) AS rewards_truncated,
    -- by name, of those in force
    (
        SELECT coalesce(json_object_agg(named.name, reward_of(given.step_rewards, named.aggregation) ORDER BY named.place), '{}')
        FROM run_rewards AS named
        JOIN rewards AS given
            ON given.sample_id = page.sample_id AND given.reward_model_id = named.reward_model_id
        WHERE named.run_id = page.run_id AND named.in_force
    ) AS rewards,
    page.tokens,
    page.finish_reason,
    page.cumulative_logprob,
    page.seed,
    models.name AS model,
    page.engine,
    page.worker,
    page.milliseconds,
    page.created_at,
    CASE WHEN chosen.id IS NOT NULL THEN 'chosen' WHEN rejected.id IS NOT NULL THEN 'rejected' END AS pair,
    partner.slot AS partner_slot,
    EXISTS (SELECT FROM verdicts WHERE verdicts.sample_id = page.sample_id) AS judged_again,
    page.thinking
FROM page
JOIN problems ON problems.id = page.problem_id
LEFT JOIN sample_responses ON sample_responses.sample_id = page.sample_id
LEFT JOIN run_rewards ON run_rewards.run_id = page.run_id AND run_rewards.shown
LEFT JOIN rewards
    ON rewards.sample_id = page.sample_id AND rewards.reward_model_id = run_rewards.reward_model_id
LEFT JOIN models ON models.id = page.model_id
LEFT JOIN preference_pairs AS chosen ON chosen.chosen_sample_id = page.sample_id
LEFT JOIN preference_pairs AS rejected ON rejected.rejected_sample_id = page.sample_id
LEFT JOIN samples AS partner ON partner.id = coalesce(chosen.rejected_sample_id, rejected.chosen_sample_id)
ORDER BY page.round_id, page.problem_id, page.slot
