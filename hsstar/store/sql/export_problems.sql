-- The problems of a dataset, in the names of the layout that imports them. Parameter: dataset_id.
SELECT
    statement AS problem,
    reference_answer AS answer,
    solution,
    subject,
    level,
    source_id AS id,
    reference_readable AS readable,
    key
FROM problems
WHERE dataset_id = :dataset_id
ORDER BY problems.id
