-- Stores what the samples of problems of a round came to, so that nobody counts them again. Stored rows are replaced.
--
-- Parameters: round_id, problem_ids (null for all).
INSERT INTO stored_outcomes (
    round_id, problem_id, drawn, correct, undecided, overrated, underrated, cut, causes, mean_tokens, mean_reward, pairs,
    difficulty, accuracy, process_quality
)
SELECT
    round_id, problem_id, drawn, correct, undecided, overrated, underrated, cut, causes, mean_tokens, mean_reward, pairs,
    difficulty, accuracy, process_quality
FROM live_outcomes
WHERE round_id = :round_id
  AND (CAST(:problem_ids AS bigint[]) IS NULL OR problem_id = ANY (CAST(:problem_ids AS bigint[])))
ON CONFLICT (round_id, problem_id) DO UPDATE SET
    drawn = excluded.drawn,
    correct = excluded.correct,
    undecided = excluded.undecided,
    overrated = excluded.overrated,
    underrated = excluded.underrated,
    cut = excluded.cut,
    causes = excluded.causes,
    mean_tokens = excluded.mean_tokens,
    mean_reward = excluded.mean_reward,
    pairs = excluded.pairs,
    difficulty = excluded.difficulty,
    accuracy = excluded.accuracy,
    process_quality = excluded.process_quality
