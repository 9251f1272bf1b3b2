-- A row per sample of an iteration: why it was drawn. A sample of a wave was the best that the budget could buy then.
CREATE VIEW budget_ledger AS
WITH
worth AS (
    SELECT
        round_id,
        wave,
        CAST(entry ->> 0 AS integer) AS correct,
        CAST(entry ->> 1 AS integer) AS incorrect,
        CAST(entry ->> 2 AS integer) AS drawn,
        entry ->> 3 AS level,
        entry -> 4 AS gains
    FROM allocation_waves
    CROSS JOIN LATERAL jsonb_array_elements(gains) AS entry
),
-- what a wave gave a problem, from which slot on, and what it expected of each; joined before there are samples
given AS (
    SELECT placed.*, worth.gains
    FROM (
        SELECT
            round_id,
            problem_id,
            wave,
            correct,
            incorrect,
            drawn,
            samples,
            pre_samples + sum(samples) OVER (PARTITION BY round_id, problem_id ORDER BY wave) - samples AS first_slot
        FROM allocations
        JOIN iterations USING (round_id)
    ) AS placed
    LEFT JOIN difficulty_labels AS labels USING (round_id, problem_id)
    LEFT JOIN worth
        ON worth.round_id = placed.round_id AND worth.wave = placed.wave AND worth.correct = placed.correct
        AND worth.incorrect = placed.incorrect AND worth.drawn = placed.drawn
        AND worth.level = coalesce(labels.level, '')
    WHERE placed.samples > 0
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    CASE WHEN given.wave IS NULL THEN 'pre' ELSE 'wave' END AS reason,
    given.wave,
    given.correct AS correct_before,
    given.incorrect AS incorrect_before,
    samples.slot - given.first_slot AS place,
    CAST(given.gains ->> CAST(samples.slot - given.first_slot AS integer) AS double precision) AS gain,
    samples.verdict,
    -- each a hash table where many samples are asked for, a look into the index where few are
    EXISTS (SELECT FROM preference_pairs AS pairs WHERE pairs.chosen_sample_id = samples.id)
    OR EXISTS (SELECT FROM preference_pairs AS pairs WHERE pairs.rejected_sample_id = samples.id) AS in_a_pair,
    samples.id AS sample_id,
    samples.tokens
FROM samples
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
JOIN iterations ON iterations.round_id = samples.round_id
LEFT JOIN given
    ON given.round_id = samples.round_id AND given.problem_id = samples.problem_id
    AND samples.slot >= given.first_slot AND samples.slot < given.first_slot + given.samples;
