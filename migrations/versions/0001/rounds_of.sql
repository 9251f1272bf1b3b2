-- The rounds of a run: its own, and of a fork those before it that it shares with the runs it comes from.
--
-- Of each earlier run it shares the iterations below the number at which it was forked, and the evaluations of their
-- policies if it would have evaluated these alike.
CREATE FUNCTION rounds_of(of_run bigint) RETURNS SETOF bigint LANGUAGE sql STABLE ROWS 20 AS $$
    WITH RECURSIVE line AS (
        SELECT id, forked_from, forked_at, shares_evaluations, CAST(NULL AS integer) AS below, true AS evaluated_alike
        FROM runs
        WHERE id = of_run
        UNION ALL
        SELECT
            earlier.id,
            earlier.forked_from,
            earlier.forked_at,
            earlier.shares_evaluations,
            least(line.below, line.forked_at),
            line.evaluated_alike AND line.shares_evaluations
        FROM line
        JOIN runs AS earlier ON earlier.id = line.forked_from
    )
    SELECT rounds.id
    FROM line
    JOIN rounds ON rounds.run_id = line.id
    WHERE below IS NULL
       OR kind = 'evaluation' AND number <= below AND evaluated_alike
       OR kind <> 'evaluation' AND number < below
$$;
