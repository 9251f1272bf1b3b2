"""What labels and pairs follow from other verdicts or rewards, by the pure rules; nothing is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.domain.difficulty import Difficulty, DifficultyEstimate, classify
from hsstar.domain.preference import Candidate, Place, select_pairs
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.recipe.recipe import Recipe
from hsstar.store import sources
from hsstar.store.verdicts import JudgedSample, load_judged


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
    beside: Sequence[Candidate] = (),
) -> set[tuple[Place, Place]]:
    """Return the pairs of a problem, as places; causes and rewards are by sample id.

    `beside` are the samples of the sources that the iteration learns from.
    """
    if level not in recipe.trained_levels:
        return set()
    return set(
        select_pairs(
            [*candidates_of(samples, causes, rewards), *beside],
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


def candidates_of(
    samples: Sequence[JudgedSample],
    causes: Mapping[int, Cause],
    rewards: Mapping[int, float | None],
    source: str = "",
    *,
    rejects: bool = True,
) -> list[Candidate]:
    """Return what may enter a pair of the samples with a cause, of the policy or of a source."""
    return [
        Candidate(
            sample.slot,
            VERDICT_OF_CAUSE[causes[sample.id]],
            rewards.get(sample.id),
            str(sample.text_hash),  # as good as the text itself: it is compared alone
            sample.tokens,
            sample.truncated,
            source,
            rejects,
        )
        for sample in samples
        if sample.id in causes
    ]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a source that an iteration learns from has drawn for some of its problems."""

    source: str
    rejects: bool
    samples: list[JudgedSample]

    def of_problem(
        self, problem_id: int, rewards: Mapping[int, float | None] | None = None
    ) -> list[Candidate]:
        """Return the candidates of a problem, by other rewards than their own where some are given."""
        samples = [sample for sample in self.samples if sample.problem_id == problem_id]
        causes = {sample.id: Cause(sample.cause) for sample in samples if sample.cause}
        ranks = {sample.id: sample.pair_reward for sample in samples} | dict(rewards or {})
        return candidates_of(samples, causes, ranks, self.source, rejects=self.rejects)


def load_beside(connection: Connection, iteration_id: int, problem_ids: list[int]) -> list[Beside]:
    """Read what the sources that an iteration learns from have drawn for these problems."""
    return [
        Beside(of.source, of.rejects, load_judged(connection, of.round_id, problem_ids))
        for of in sources.list_taught(connection, iteration_id)
    ]


def in_order(pair: tuple[Place, Place]) -> tuple[tuple[bool, int, str], ...]:
    """Return the key that sorts pairs by their places, the policy's own samples first."""
    return tuple((False, place, "") if isinstance(place, int) else (True, 0, place) for place in pair)
