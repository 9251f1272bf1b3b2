-- Inserts samples with their responses.
--
-- Parameters: round_id, model_id, worker, and one array per column of `input`. An occupied slot keeps its sample;
-- the row count of the statement is the number of new samples.
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
        milliseconds
    )
    SELECT
        :round_id, CAST(:model_id AS bigint), :worker, problem_id, slot, seed, tokens, finish_reason,
        cumulative_logprob, engine, milliseconds
    FROM input
    ON CONFLICT (round_id, problem_id, slot) DO NOTHING
    RETURNING id, problem_id, slot, tokens
)
INSERT INTO sample_responses (sample_id, response)
SELECT written.id, input.response
FROM written
JOIN input USING (problem_id, slot)
