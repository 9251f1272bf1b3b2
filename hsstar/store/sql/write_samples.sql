-- Inserts samples with their responses, and counts them.
--
-- Parameters: round_id, model_id, worker, job_id (null without one), and one array per column of `input`. An occupied
-- slot keeps its sample; the row count of the statement is the number of new samples.
WITH
input AS (
    SELECT * FROM unnest(
        CAST(:problem_ids AS bigint[]), CAST(:slots AS int[]), CAST(:responses AS text[]), CAST(:seeds AS bigint[]),
        CAST(:tokens AS int[]), CAST(:finish_reasons AS text[]), CAST(:logprobs AS double precision[]),
        CAST(:engines AS text[]), CAST(:milliseconds AS double precision[])
    ) AS input (
        problem_id, slot, response, seed, tokens, finish_reason, cumulative_logprob, engine, milliseconds
    )
),
written AS (
    INSERT INTO samples (
        round_id, model_id, worker, problem_id, slot, seed, tokens, finish_reason, cumulative_logprob, engine,
        milliseconds, text_hash
    )
    SELECT
        :round_id, CAST(:model_id AS bigint), :worker, problem_id, slot, seed, tokens, finish_reason,
        cumulative_logprob, engine, milliseconds, hashtextextended(response, 0)
    FROM input
    ON CONFLICT (round_id, problem_id, slot) DO NOTHING
    RETURNING id, problem_id, slot, tokens, finish_reason
),
counted AS (
    INSERT INTO sample_counts AS counts (round_id, worker, drawn, drawn_pre, tokens, cut, cut_by_context)
    SELECT
        :round_id,
        :worker,
        count(*),
        count(*) FILTER (WHERE slot < (SELECT pre_samples FROM iterations WHERE round_id = :round_id)),
        coalesce(sum(tokens), 0),
        count(*) FILTER (WHERE finish_reason = 'length'),
        count(*) FILTER (WHERE finish_reason = 'length' AND tokens < (SELECT token_limit(:round_id)))
    FROM written
    HAVING count(*) > 0
    ON CONFLICT (round_id, worker) DO UPDATE
    SET drawn = counts.drawn + excluded.drawn,
        drawn_pre = counts.drawn_pre + excluded.drawn_pre,
        tokens = counts.tokens + excluded.tokens,
        cut = counts.cut + excluded.cut,
        cut_by_context = counts.cut_by_context + excluded.cut_by_context
),
of_job AS (
    UPDATE jobs SET drawn = drawn + (SELECT count(*) FROM written) WHERE id = CAST(:job_id AS bigint)
)
INSERT INTO sample_responses (sample_id, response)
SELECT written.id, input.response
FROM written
JOIN input USING (problem_id, slot)
