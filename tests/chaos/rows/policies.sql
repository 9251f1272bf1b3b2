-- The policy that an iteration samples from, and the one that it makes.
SELECT number, models.fingerprint, made.fingerprint
FROM rounds JOIN iterations ON round_id = rounds.id
JOIN models ON models.id = model_id
JOIN models AS made ON made.id = output_model_id
