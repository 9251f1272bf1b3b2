-- Appends verdicts to those of their samples, and puts them in force if they are adopted; each that is news.
--
-- News is what differs from the newest verdict of the sample, or is adopted and differs from the one in force. A
-- sample without a verdict gets none, and what a person has judged (a reason says so) no verifier changes. The first
-- time, the verdict that the sample has had is appended before. Parameters: verifier (its version; null for a person),
-- author, reason (null for a verifier), adopted, and one array per column of `input`. A second run adds nothing.
WITH
input AS (
    SELECT * FROM unnest(
        CAST(:ids AS bigint[]), CAST(:verdicts AS text[]), CAST(:causes AS text[]), CAST(:answers AS text[]),
        CAST(:details AS text[])
    ) AS input (id, verdict, cause, answer, cause_detail)
),
news AS (
    SELECT
        input.*,
        samples.round_id,
        samples.problem_id,
        samples.slot,
        samples.verdict AS old_verdict,
        samples.cause AS old_cause,
        samples.answer AS old_answer,
        samples.cause_detail AS old_detail,
        samples.verifier AS old_verifier,
        newest.sample_id IS NULL AS is_second
    FROM input
    JOIN samples ON samples.id = input.id
    LEFT JOIN LATERAL (
        SELECT * FROM verdicts WHERE sample_id = samples.id ORDER BY id DESC LIMIT 1
    ) AS newest ON true
    WHERE samples.cause IS NOT NULL
      AND (CAST(:reason AS text) IS NOT NULL OR NOT EXISTS (
          SELECT FROM verdicts WHERE sample_id = samples.id AND reason IS NOT NULL
      ))
      AND (
          (input.cause, input.answer, CAST(:reason AS text)) IS DISTINCT FROM CASE
              WHEN newest.sample_id IS NULL THEN (samples.cause, samples.answer, CAST(NULL AS text))
              ELSE (newest.cause, newest.answer, newest.reason)
          END
          OR CAST(:adopted AS boolean) AND (input.cause, input.answer) IS DISTINCT FROM (samples.cause, samples.answer)
      )
),
put_in_force AS (
    UPDATE samples
    SET verdict = news.verdict, cause = news.cause, answer = news.answer, verifier = CAST(:verifier AS text),
        cause_detail = news.cause_detail
    FROM news
    WHERE samples.id = news.id AND CAST(:adopted AS boolean)
),
counted AS (
    INSERT INTO sample_counts AS counts (round_id, worker, correct, no_answer)
    SELECT
        round_id,
        :author,
        count(*) FILTER (WHERE verdict = 'correct') - count(*) FILTER (WHERE old_verdict = 'correct'),
        count(*) FILTER (WHERE cause = 'no_answer') - count(*) FILTER (WHERE old_cause = 'no_answer')
    FROM news
    WHERE CAST(:adopted AS boolean)
    GROUP BY round_id
    ON CONFLICT (round_id, worker) DO UPDATE
    SET correct = counts.correct + excluded.correct, no_answer = counts.no_answer + excluded.no_answer
)
INSERT INTO verdicts (sample_id, verdict, cause, answer, cause_detail, verifier, author, reason, adopted, judged_at)
SELECT sample_id, verdict, cause, answer, cause_detail, verifier, author, reason, adopted, judged_at
FROM (
    SELECT
        id AS sample_id, 1 AS place, old_verdict AS verdict, old_cause AS cause, old_answer AS answer,
        old_detail AS cause_detail, old_verifier AS verifier, job.worker AS author, CAST(NULL AS text) AS reason, true AS adopted,
        job.finished_at AS judged_at
    FROM news
    LEFT JOIN LATERAL (
        SELECT jobs.worker, jobs.finished_at
        FROM job_items
        JOIN jobs ON jobs.id = job_items.job_id
        WHERE job_items.problem_id = news.problem_id
          AND news.slot = ANY (job_items.slots)
          AND jobs.round_id = news.round_id
          AND jobs.kind = 'verify'
        ORDER BY jobs.id
        LIMIT 1
    ) AS job ON true
    WHERE is_second
    UNION ALL
    SELECT id, 2, verdict, cause, answer, cause_detail, CAST(:verifier AS text), :author, CAST(:reason AS text), CAST(:adopted AS boolean), now()
    FROM news
) AS added
ORDER BY sample_id, place
