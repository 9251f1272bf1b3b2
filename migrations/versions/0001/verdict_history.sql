-- A row per verdict of each sample that has had more than one: by whom, why, and whether it is in force.
CREATE VIEW verdict_history AS
SELECT
    runs.name AS run,
    coalesce(nullif(rounds.evaluation_key, ''), 'iteration') AS measure,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    verdicts.sample_id,
    verdicts.verdict,
    verdicts.cause,
    verdicts.cause_detail,
    verdicts.answer,
    verdicts.verifier,
    verdicts.author,
    verdicts.reason,
    verdicts.id = max(verdicts.id) FILTER (WHERE adopted) OVER (PARTITION BY sample_id) AS in_force,
    verdicts.judged_at
FROM verdicts
JOIN samples ON samples.id = verdicts.sample_id
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id;
