-- Assigns a round the first unused problems of a dataset in the run's seeded order.
--
-- Parameters: round_id, dataset_id, seed, limit (null for all), allotment (samples per problem), without_overlaps
-- (leave out problems that overlap a dataset of evaluations). An iteration skips the problems of the run's other
-- iterations, so that slices are disjoint. Problems with an unreadable reference answer are left out.
WITH
this AS (
    SELECT run_id, kind FROM rounds WHERE id = :round_id
),
used AS (
    SELECT round_problems.problem_id
    FROM this
    JOIN rounds ON rounds.run_id = this.run_id AND rounds.kind = this.kind
    JOIN round_problems ON round_problems.round_id = rounds.id
    WHERE this.kind = 'iteration'
),
unused AS (
    SELECT
        id,
        row_number() OVER (
            ORDER BY sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'slice', key), 'UTF8'))
        ) - 1 AS position
    FROM problems
    WHERE dataset_id = :dataset_id
      AND reference_readable
      AND NOT (:without_overlaps AND EXISTS (SELECT FROM problem_overlaps WHERE problem_id = problems.id))
      AND NOT EXISTS (SELECT FROM used WHERE used.problem_id = problems.id)
)
INSERT INTO round_problems (round_id, problem_id, position, allotment)
SELECT :round_id, id, position, :allotment
FROM unused
WHERE CAST(:limit AS int) IS NULL OR position < :limit
