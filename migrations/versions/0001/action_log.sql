-- A row per action that somebody asked for in the pages of `hsstar web --actions`, also a refused one.
CREATE VIEW action_log AS
SELECT
    actions.id AS action_id,
    actions.asked_at,
    actions.author,
    actions.run,
    actions.action,
    actions.sample_id,
    actions.detail,
    actions.outcome,
    actions.refused
FROM actions;
