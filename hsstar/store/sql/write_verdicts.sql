-- Writes verdict, cause with its detail, and extracted answer of samples that have none yet, and counts them.
--
-- Parameters: worker, verifier (its version), and one array per column of `input`.
WITH
input AS (
    SELECT * FROM unnest(
        CAST(:ids AS bigint[]), CAST(:verdicts AS text[]), CAST(:causes AS text[]), CAST(:answers AS text[]),
        CAST(:details AS text[])
    ) AS input (id, verdict, cause, answer, cause_detail)
),
written AS (
    UPDATE samples
    SET verdict = input.verdict, cause = input.cause, answer = input.answer, verifier = :verifier,
        cause_detail = input.cause_detail
    FROM input
    WHERE samples.id = input.id AND samples.cause IS NULL
    RETURNING round_id, samples.verdict, samples.cause
)
INSERT INTO sample_counts AS counts (round_id, worker, verified, correct, no_answer)
SELECT
    round_id,
    :worker,
    count(*),
    count(*) FILTER (WHERE verdict = 'correct'),
    count(*) FILTER (WHERE cause = 'no_answer')
FROM written
GROUP BY round_id
ON CONFLICT (round_id, worker) DO UPDATE
SET verified = counts.verified + excluded.verified,
    correct = counts.correct + excluded.correct,
    no_answer = counts.no_answer + excluded.no_answer
