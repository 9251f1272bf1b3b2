-- A row per round, for hsstar's own queries: the state of its iteration; `running` or `done` for any other.
CREATE VIEW round_states AS
SELECT
    rounds.id AS round_id,
    coalesce(
        iterations.state,
        CASE WHEN coalesce(evaluations.finished_at, step_rounds.finished_at, source_rounds.finished_at) IS NULL THEN 'running' ELSE 'done' END
    ) AS state
FROM rounds
LEFT JOIN iterations ON iterations.round_id = rounds.id
LEFT JOIN evaluations ON evaluations.round_id = rounds.id
LEFT JOIN step_rounds ON step_rounds.round_id = rounds.id
LEFT JOIN source_rounds ON source_rounds.round_id = rounds.id;
