-- The samples of some runs by kind of round, as their counters say. Parameter: run_ids.
SELECT
    runs.name AS run,
    rounds.kind AS round,
    CAST(sum(drawn) AS bigint) AS drawn,
    CAST(sum(verified) AS bigint) AS verified,
    CAST(sum(scored) AS bigint) AS scored,
    CAST(sum(correct) AS bigint) AS correct,
    CAST(sum(cut) AS bigint) AS cut,
    CAST(sum(tokens) AS bigint) AS tokens
FROM sample_counts
JOIN rounds ON rounds.id = sample_counts.round_id
JOIN runs ON runs.id = rounds.run_id
WHERE runs.id = ANY (:run_ids)
GROUP BY runs.id, rounds.kind
ORDER BY runs.id, rounds.kind
