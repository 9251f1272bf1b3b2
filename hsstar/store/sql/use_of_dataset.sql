-- The runs that use a dataset: whose rounds have problems of it, and whose recipe names it.
-- Parameters: id and name of the dataset.
SELECT
    ARRAY(
        SELECT runs.name
        FROM problems
        JOIN round_problems ON round_problems.problem_id = problems.id
        JOIN rounds ON rounds.id = round_problems.round_id
        JOIN runs ON runs.id = rounds.run_id
        WHERE problems.dataset_id = :id
        UNION
        SELECT runs.name
        FROM evaluations
        JOIN rounds ON rounds.id = evaluations.round_id
        JOIN runs ON runs.id = rounds.run_id
        WHERE evaluations.dataset_id = :id
        ORDER BY name
    ) AS rounds,
    ARRAY(
        SELECT name
        FROM runs
        WHERE :name IN (recipe -> 'problems' ->> 'dataset', recipe -> 'evaluation' ->> 'dataset')
        ORDER BY name
    ) AS recipes
