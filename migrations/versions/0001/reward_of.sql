-- The reward of a response from those of its steps; 0 for a response without a step.
--
-- Twin of `aggregate` in domain/rewards.py. What is below 1e-150 counts as 0: Postgres refuses products that are too
-- small for a number.
CREATE FUNCTION times_reward(product double precision, reward double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN least(product, reward) < 1e-150 THEN 0 ELSE product * reward END
$$;

CREATE AGGREGATE product_of_rewards(double precision) (
    SFUNC = times_reward, STYPE = double precision, INITCOND = '1'
);

CREATE FUNCTION reward_of(step_rewards double precision[], aggregation text) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN reward >= 1e-150 AND cardinality(step_rewards) > 0 THEN reward ELSE 0 END
    FROM (
        SELECT CASE aggregation
            WHEN 'min' THEN min(reward)
            WHEN 'mean' THEN avg(reward ORDER BY place)
            WHEN 'last' THEN step_rewards[cardinality(step_rewards)]
            WHEN 'product' THEN product_of_rewards(reward ORDER BY place)
        END AS reward
        FROM unnest(step_rewards) WITH ORDINALITY AS step (reward, place)
    ) AS aggregated
$$
