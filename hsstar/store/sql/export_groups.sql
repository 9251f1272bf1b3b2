-- The samples of a run in groups, one per iteration and problem, each with its advantage in the group (GRPO).
--
-- A group counts every sample with a reward, also those whose text was deleted, which are no rows. Parameters: run_id,
-- by (verdict: 1 for a correct sample, 0 for an incorrect one | reward: what its rewards come to for the difficulty).
WITH
rewarded AS (
    SELECT
        samples.id,
        samples.round_id,
        samples.problem_id,
        samples.slot,
        CASE
            WHEN :by = 'reward' THEN samples.min_reward
            WHEN samples.verdict = 'correct' THEN 1
            WHEN samples.verdict = 'incorrect' THEN 0
        END AS reward,
        samples.verdict = 'correct' AS correct,
        samples.tokens,
        samples.finish_reason
    FROM samples
    JOIN rounds ON rounds.id = samples.round_id
    WHERE rounds.kind = 'iteration' AND rounds.id IN (SELECT rounds_of(:run_id))
),
grouped AS (
    SELECT
        *,
        count(*) OVER per_problem AS size,
        avg(reward) OVER per_problem AS mean,
        stddev_samp(reward) OVER per_problem AS deviation,
        min(reward) OVER per_problem < max(reward) OVER per_problem AS varied
    FROM rewarded
    WHERE reward IS NOT NULL
    WINDOW per_problem AS (PARTITION BY round_id, problem_id)
)
SELECT
    rounds.number AS iteration,
    problems.key AS problem,
    rounds.number || '/' || grouped.problem_id AS group,
    problems.statement,
    sample_responses.response,
    grouped.slot,
    grouped.reward,
    CASE WHEN varied THEN (reward - mean) / deviation ELSE 0 END AS advantage,
    grouped.varied,
    grouped.size AS group_size,
    grouped.mean AS group_mean,
    CASE WHEN varied THEN deviation ELSE 0 END AS group_deviation,
    grouped.correct,
    grouped.tokens,
    grouped.finish_reason,
    rewards_by_name(rounds.run_id, grouped.id) AS rewards
FROM grouped
JOIN rounds ON rounds.id = grouped.round_id
JOIN problems ON problems.id = grouped.problem_id
JOIN sample_responses ON sample_responses.sample_id = grouped.id
ORDER BY rounds.number, grouped.problem_id, grouped.slot
