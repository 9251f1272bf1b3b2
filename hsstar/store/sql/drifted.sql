-- The unfinished rounds whose counters differ from their samples. No parameters.
WITH
open_rounds AS (
    SELECT round_id AS id, token_limit(round_id) AS most FROM round_states WHERE state <> 'done'
),
counted AS (
    SELECT
        round_id AS id,
        sum(drawn) AS drawn,
        sum(drawn_pre) AS drawn_pre,
        sum(tokens) AS tokens,
        sum(verified) AS verified,
        sum(scored) AS scored,
        sum(correct) AS correct,
        sum(cut) AS cut,
        sum(no_answer) AS no_answer,
        sum(cut_by_context) AS cut_by_context
    FROM sample_counts
    WHERE round_id IN (SELECT id FROM open_rounds)
    GROUP BY round_id
),
present AS (
    SELECT
        open_rounds.id,
        count(*) AS drawn,
        count(*) FILTER (WHERE slot < pre_samples) AS drawn_pre,
        coalesce(sum(tokens), 0) AS tokens,
        count(cause) AS verified,
        count(min_reward) AS scored,
        count(*) FILTER (WHERE verdict = 'correct') AS correct,
        count(*) FILTER (WHERE finish_reason = 'length') AS cut,
        count(*) FILTER (WHERE cause = 'no_answer') AS no_answer,
        count(*) FILTER (WHERE finish_reason = 'length' AND samples.tokens < most) AS cut_by_context
    FROM samples
    JOIN open_rounds ON open_rounds.id = samples.round_id
    LEFT JOIN iterations USING (round_id)
    GROUP BY open_rounds.id
)
SELECT coalesce(counted.id, present.id) AS id
FROM counted
FULL JOIN present USING (id)
WHERE (
        counted.drawn, counted.drawn_pre, counted.tokens, counted.verified, counted.scored, counted.correct,
        counted.cut, counted.no_answer, counted.cut_by_context
    ) IS DISTINCT FROM (
        present.drawn, present.drawn_pre, present.tokens, present.verified, present.scored, present.correct,
        present.cut, present.no_answer, present.cut_by_context
    )
ORDER BY 1
