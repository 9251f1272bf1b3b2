-- Gives the policies and reward models below a folder, and the bases of adapters there, their place below another;
-- returns the number of policies and reward models that moved.
-- Parameters: before, after (folders without a slash at the end).
WITH
policies AS (
    UPDATE models SET
        location = CASE
            WHEN starts_with(location, :before || '/') THEN :after || substr(location, length(:before) + 1)
            ELSE location
        END,
        base = CASE
            WHEN starts_with(base, :before || '/') THEN :after || substr(base, length(:before) + 1)
            ELSE base
        END
    WHERE starts_with(location, :before || '/') OR starts_with(base, :before || '/')
    RETURNING starts_with(location, :after || '/') AS moved
),
judges AS (
    UPDATE reward_models SET location = :after || substr(location, length(:before) + 1)
    WHERE starts_with(location, :before || '/')
    RETURNING 1
)
SELECT (SELECT count(*) FROM policies WHERE moved) + (SELECT count(*) FROM judges)
