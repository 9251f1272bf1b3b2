-- Assigns a round the first problems of a dataset in the run's seeded order, those first that it has had least often.
--
-- Parameters: round_id, dataset_id, seed, limit (null for all), allotment (samples per problem), without_overlaps
-- (leave out problems that overlap a dataset of evaluations), repeat (which problems of the run's other iterations an
-- iteration takes: 'never' any, so that slices are disjoint; 'unsolved': those without a correct sample; 'all').
-- The other iterations of a fork are also those that it shares. Problems with an unreadable reference answer are left out.
WITH
this AS (
    SELECT run_id, kind FROM rounds WHERE id = :round_id
),
used AS (
    SELECT
        round_problems.problem_id,
        count(*) AS times,
        :repeat = 'unsolved' AND bool_or(EXISTS (
            SELECT FROM samples
            WHERE samples.round_id = round_problems.round_id
              AND samples.problem_id = round_problems.problem_id
              AND verdict = 'correct'
        )) AS solved
    FROM this
    JOIN rounds ON rounds.id IN (SELECT rounds_of(this.run_id)) AND rounds.kind = this.kind
    JOIN round_problems ON round_problems.round_id = rounds.id
    WHERE this.kind = 'iteration'
    GROUP BY round_problems.problem_id
),
taken AS (
    SELECT
        id,
        row_number() OVER (
            ORDER BY
                coalesce(times, 0),
                sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'slice', key), 'UTF8'))
        ) - 1 AS position
    FROM problems
    LEFT JOIN used ON used.problem_id = problems.id
    WHERE dataset_id = :dataset_id
      AND reference_readable
      AND NOT (:without_overlaps AND EXISTS (SELECT FROM problem_overlaps WHERE problem_id = problems.id))
      AND (times IS NULL OR :repeat <> 'never' AND NOT solved)
)
INSERT INTO round_problems (round_id, problem_id, position, allotment)
SELECT :round_id, id, position, :allotment
FROM taken
WHERE CAST(:limit AS int) IS NULL OR position < :limit
