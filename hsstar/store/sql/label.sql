-- Labels the problems whose pre-samples all have their verdict (and reward) (METHOD step 3).
--
-- SQL twin of `estimate_difficulty` and `classify` in domain/difficulty.py. Parameters: round_id, n_p, signal,
-- tau_low, tau_high, with_reward (a reward model scores this run), problem_ids (only these; null for all).
WITH
pre_samples AS (
    SELECT
        samples.problem_id,
        CAST(count(*) FILTER (WHERE verdict = 'correct') AS double precision) / count(*) AS accuracy,
        -- ordered, because the last bit of a float sum, and a label at a threshold, depend on the order
        CASE WHEN :with_reward THEN avg(min_reward ORDER BY slot) END AS process_quality
    FROM samples
    JOIN round_problems USING (round_id, problem_id)
    WHERE round_id = :round_id
      AND slot < :n_p
      AND exclusion IS NULL
      -- of both tables, lest each batch reads one of them as a whole
      AND (CAST(:problem_ids AS bigint[]) IS NULL OR (
          samples.problem_id = ANY (CAST(:problem_ids AS bigint[]))
          AND round_problems.problem_id = ANY (CAST(:problem_ids AS bigint[]))
      ))
    GROUP BY samples.problem_id
    HAVING count(cause) = :n_p
       AND (NOT :with_reward OR count(min_reward) = :n_p)
       -- an unreadable reference says nothing about the policy: such a problem has no level
       AND NOT bool_or(cause = 'bad_reference')
),
-- per signal: whether it calls the problem easy (in) or too hard (out)
signals AS (
    SELECT
        pre_samples.*,
        :signal = 'reward' OR accuracy = 1 AS accuracy_in,
        :signal = 'reward' OR accuracy = 0 AS accuracy_out,
        :signal = 'accuracy' OR process_quality > :tau_high AS reward_in,
        :signal = 'accuracy' OR process_quality < :tau_low AS reward_out
    FROM pre_samples
)
INSERT INTO difficulty_labels (round_id, problem_id, level, accuracy, process_quality)
SELECT
    :round_id,
    problem_id,
    CASE
        WHEN accuracy_in AND reward_in THEN 'inlier'
        WHEN accuracy_out AND reward_out THEN 'outlier'
        ELSE 'boundary'
    END,
    accuracy,
    process_quality
FROM signals
ON CONFLICT (round_id, problem_id) DO NOTHING
