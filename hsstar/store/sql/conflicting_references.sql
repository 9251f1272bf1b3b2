-- Statements of an import that have another reference answer than the one that stays, in the file or stored.
-- Parameters: dataset_id; most, as many rows at most.
WITH
first AS (
    SELECT key, number, statement, reference_answer
    FROM given_problems
    WHERE number IN (SELECT min(number) FROM given_problems GROUP BY key)
),
conflicts AS (
    SELECT given_problems.number, first.statement, first.reference_answer AS kept,
        given_problems.reference_answer AS other, false AS is_stored
    FROM given_problems
    JOIN first USING (key)
    WHERE given_problems.reference_answer <> first.reference_answer
    UNION ALL
    SELECT first.number, first.statement, problems.reference_answer, first.reference_answer, true
    FROM first
    JOIN problems USING (key)
    WHERE problems.dataset_id = :dataset_id AND problems.reference_answer <> first.reference_answer
)
SELECT statement, kept, other, is_stored
FROM conflicts
ORDER BY number, is_stored
LIMIT :most
