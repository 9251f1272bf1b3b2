-- The tokens that a sample of a round has at most: max_new_tokens of its evaluation or source, else of its run's recipe.
CREATE FUNCTION token_limit(of_round bigint) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT max_new_tokens FROM evaluations WHERE round_id = of_round),
        (
            SELECT run_sources.max_new_tokens
            FROM source_rounds
            JOIN rounds ON rounds.id = source_rounds.round_id
            JOIN run_sources ON run_sources.run_id = rounds.run_id AND run_sources.name = source_rounds.source
            WHERE source_rounds.round_id = of_round
        ),
        (
            SELECT CAST(runs.recipe #>> '{sampling,max_new_tokens}' AS integer)
            FROM rounds
            JOIN runs ON runs.id = rounds.run_id
            WHERE rounds.id = of_round
        )
    )
$$;
