-- A row per problem of an iteration: samples drawn, in flight and still to draw.
--
-- Samples are counted problem by problem, so a query reads only those of the rounds that it asks for.
CREATE VIEW remaining_budget AS
WITH
-- slots of queued or running sampling jobs without a sample
in_flight AS (
    SELECT jobs.round_id, job_items.problem_id, count(*) AS in_flight
    FROM jobs
    JOIN job_items ON job_items.job_id = jobs.id
    CROSS JOIN LATERAL unnest(job_items.slots) AS assigned (slot)
    LEFT JOIN samples
        ON samples.round_id = jobs.round_id
        AND samples.problem_id = job_items.problem_id
        AND samples.slot = assigned.slot
    WHERE jobs.kind = 'sample' AND jobs.state IN ('queued', 'running') AND samples.id IS NULL
    GROUP BY jobs.round_id, job_items.problem_id
)
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    round_problems.problem_id,
    round_problems.allotment,
    counted.drawn,
    coalesce(in_flight.in_flight, 0) AS in_flight,
    CASE WHEN round_problems.exclusion IS NULL
        THEN greatest(round_problems.allotment - counted.drawn - coalesce(in_flight.in_flight, 0), 0)
        ELSE 0
    END AS remaining
FROM round_problems
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = round_problems.round_id
JOIN runs ON runs.id = rounds.run_id
CROSS JOIN LATERAL (
    SELECT count(*) AS drawn
    FROM samples
    WHERE samples.round_id = round_problems.round_id AND samples.problem_id = round_problems.problem_id
) AS counted
LEFT JOIN in_flight USING (round_id, problem_id);
