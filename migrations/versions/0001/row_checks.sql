-- References of the rows that the end of a round writes by the thousands. Foreign keys would look at row after row and
-- lock each row that it names, for half of the time of all; these look once a statement, and lock the round.

CREATE FUNCTION check_problems_of_rounds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM rounds WHERE id IN (SELECT round_id FROM added) FOR KEY SHARE;
    IF EXISTS (
        SELECT FROM added WHERE NOT EXISTS (
            SELECT FROM round_problems AS assigned
            WHERE assigned.round_id = added.round_id AND assigned.problem_id = added.problem_id
        )
    ) THEN
        RAISE foreign_key_violation USING MESSAGE = format('a row of %s is of a problem that is not in its round', TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION check_samples_of_pairs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added CROSS JOIN LATERAL (VALUES (chosen_sample_id), (rejected_sample_id)) AS half (id)
        WHERE NOT EXISTS (
            SELECT FROM samples
            WHERE samples.id = half.id AND samples.problem_id = added.problem_id AND (
                samples.round_id = added.round_id OR EXISTS (
                    SELECT FROM rounds AS iteration
                    JOIN rounds AS source USING (run_id, number)
                    WHERE iteration.id = added.round_id AND source.id = samples.round_id AND source.kind = 'source'
                )
            )
        )
    ) THEN
        RAISE foreign_key_violation
            USING MESSAGE = 'a preference pair is of samples that its problem has not in its round, or in one of its sources';
    END IF;
    RETURN NULL;
END $$;

-- jobs that were added a moment ago have no statistics, by which the planner would scan them for each item
CREATE FUNCTION check_items_of_jobs() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM jobs JOIN rounds ON rounds.id = jobs.round_id WHERE jobs.id IN (SELECT job_id FROM added) FOR KEY SHARE;
    IF EXISTS (
        SELECT FROM added WHERE NOT EXISTS (
            SELECT FROM jobs JOIN round_problems USING (round_id)
            WHERE jobs.id = added.job_id AND round_problems.problem_id = added.problem_id
        )
    ) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an item is of no job, or of a problem that is not in its round';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION delete_of_problems() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM rounds WHERE id IN (SELECT round_id FROM gone) FOR UPDATE;
    DELETE FROM difficulty_labels USING gone
    WHERE difficulty_labels.round_id = gone.round_id AND difficulty_labels.problem_id = gone.problem_id;
    DELETE FROM stored_outcomes USING gone
    WHERE stored_outcomes.round_id = gone.round_id AND stored_outcomes.problem_id = gone.problem_id;
    DELETE FROM allocations USING gone
    WHERE allocations.round_id = gone.round_id AND allocations.problem_id = gone.problem_id;
    DELETE FROM preference_pairs USING gone
    WHERE preference_pairs.round_id = gone.round_id AND preference_pairs.problem_id = gone.problem_id;
    DELETE FROM job_items USING gone, jobs
    WHERE jobs.round_id = gone.round_id AND job_items.job_id = jobs.id AND job_items.problem_id = gone.problem_id;
    RETURN NULL;
END $$;

CREATE FUNCTION delete_of_samples() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM rounds WHERE id IN (SELECT round_id FROM gone) FOR UPDATE;
    DELETE FROM preference_pairs USING gone WHERE chosen_sample_id = gone.id;
    DELETE FROM preference_pairs USING gone WHERE rejected_sample_id = gone.id;
    RETURN NULL;
END $$;

CREATE FUNCTION delete_of_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM job_items USING gone WHERE job_id = gone.id;
    RETURN NULL;
END $$;

CREATE TRIGGER tr_difficulty_labels_added AFTER INSERT ON difficulty_labels REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_difficulty_labels_changed AFTER UPDATE ON difficulty_labels REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_stored_outcomes_added AFTER INSERT ON stored_outcomes REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_stored_outcomes_changed AFTER UPDATE ON stored_outcomes REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_allocations_added AFTER INSERT ON allocations REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_preference_pairs_added AFTER INSERT ON preference_pairs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_preference_pairs_changed AFTER UPDATE ON preference_pairs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_problems_of_rounds();
CREATE TRIGGER tr_preference_pairs_samples_added AFTER INSERT ON preference_pairs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_samples_of_pairs();
CREATE TRIGGER tr_preference_pairs_samples_changed AFTER UPDATE ON preference_pairs REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_samples_of_pairs();
CREATE TRIGGER tr_job_items_added AFTER INSERT ON job_items REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_items_of_jobs();
CREATE TRIGGER tr_job_items_changed AFTER UPDATE ON job_items REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION check_items_of_jobs();
CREATE TRIGGER tr_round_problems_gone AFTER DELETE ON round_problems REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION delete_of_problems();
CREATE TRIGGER tr_samples_gone AFTER DELETE ON samples REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION delete_of_samples();
CREATE TRIGGER tr_jobs_gone AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION delete_of_jobs();
