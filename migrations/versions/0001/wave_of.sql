-- The wave of re-sampling that gives a slot of an iteration to a problem, from 1 on; 0 for a pre-sample.
CREATE FUNCTION wave_of(of_round bigint, of_problem bigint, of_slot integer) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(given.wave) + 1, 0)
    FROM (
        SELECT
            wave,
            samples,
            pre_samples + sum(samples) OVER (ORDER BY wave) - samples AS first_slot
        FROM allocations
        JOIN iterations USING (round_id)
        WHERE round_id = of_round AND problem_id = of_problem
    ) AS given
    WHERE samples > 0 AND first_slot <= of_slot
$$;
