-- The figures of the evaluations.
SELECT number, accuracy, standard_error
FROM rounds JOIN evaluations ON round_id = rounds.id
