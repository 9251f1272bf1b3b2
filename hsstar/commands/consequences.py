"""What labels and pairs follow from other verdicts or rewards, by the pure rules; nothing is written."""

from collections.abc import Mapping, Sequence

from hsstar.domain.difficulty import Difficulty, DifficultyEstimate, classify
from hsstar.domain.preference import Candidate, select_pairs
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.recipe.recipe import Recipe
from hsstar.store.verdicts import JudgedSample


def label_of(
    recipe: Recipe,
    samples: Sequence[JudgedSample],
    causes: Mapping[int, Cause],
    process_quality: float | None,
) -> Difficulty | None:
    """Return the label of a problem; None if its reference proved unreadable. `causes` are by sample id."""
    pre_samples = [
        causes[sample.id]
        for sample in samples
        if sample.slot < recipe.sampling.budget.pre_samples and sample.id in causes
    ]
    if Cause.BAD_REFERENCE in pre_samples:
        return None
    accuracy = pre_samples.count(Cause.CORRECT) / len(pre_samples)
    estimate = DifficultyEstimate(accuracy, process_quality)
    return classify(estimate, recipe.difficulty.signal, recipe.difficulty.thresholds)


def pairs_of(
    recipe: Recipe,
    iteration: int,
    samples: Sequence[JudgedSample],
    causes: Mapping[int, Cause],
    level: Difficulty | None,
    rewards: Mapping[int, float | None],
) -> set[tuple[int, int]]:
    """Return the pairs of a problem, as slots; causes and rewards are by sample id."""
    if level not in recipe.trained_levels:
        return set()
    candidates = [
        Candidate(
            sample.slot,
            VERDICT_OF_CAUSE[causes[sample.id]],
            rewards.get(sample.id),
            str(sample.text_hash),  # as good as the text itself: it is compared alone
            sample.tokens,
            sample.truncated,
        )
        for sample in samples
        if sample.id in causes
    ]
    return set(
        select_pairs(
            candidates,
            recipe.pairs.rule,
            seed=recipe.seed,
            iteration=iteration,
            problem_key=samples[0].problem_key,
            at_most=recipe.pairs.at_most_per_problem,
            distinct=recipe.pairs.distinct,
            length=recipe.pairs.length,
            cut=recipe.pairs.cut,
        )
    )
