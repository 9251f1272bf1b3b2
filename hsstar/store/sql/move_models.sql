-- Gives the policies and reward models below a folder their place below another; returns their number.
-- Parameters: before, after (folders without a slash at the end).
WITH
policies AS (
    UPDATE models SET location = :after || substr(location, length(:before) + 1)
    WHERE starts_with(location, :before || '/')
    RETURNING 1
),
bases AS (
    UPDATE models SET base = :after || substr(base, length(:before) + 1)
    WHERE starts_with(base, :before || '/')
),
judges AS (
    UPDATE reward_models SET location = :after || substr(location, length(:before) + 1)
    WHERE starts_with(location, :before || '/')
    RETURNING 1
)
SELECT (SELECT count(*) FROM policies) + (SELECT count(*) FROM judges)
