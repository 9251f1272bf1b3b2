-- The runs that use a dataset: those with rounds that have problems of it or may take some, and those that name it.
-- Parameters: id and name of the dataset.
WITH
naming AS (
    SELECT id, name
    FROM runs
    WHERE :name IN (recipe -> 'problems' ->> 'dataset', recipe -> 'evaluation' ->> 'dataset')
),
with_problems AS (
    SELECT rounds.run_id
    FROM problems
    JOIN round_problems ON round_problems.problem_id = problems.id
    JOIN rounds ON rounds.id = round_problems.round_id
    WHERE problems.dataset_id = :id
    UNION
    SELECT rounds.run_id
    FROM evaluations
    JOIN rounds ON rounds.id = evaluations.round_id
    WHERE evaluations.dataset_id = :id
    UNION
    SELECT rounds.run_id
    FROM naming
    JOIN rounds ON rounds.run_id = naming.id
)
SELECT
    ARRAY(SELECT name FROM runs WHERE id IN (SELECT run_id FROM with_problems) ORDER BY name) AS rounds,
    ARRAY(SELECT name FROM naming ORDER BY name) AS recipes
