"""What a policy would have made of the samples of a finished iteration, without drawing any.

The verdicts of a problem count in the order of their slots. Where a policy gives a problem more samples than
it has, their verdicts are drawn from what its own samples say of its pass rate; so a replay is repeated.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, stdev

from hsstar.domain.allocation.belief import GRID, Beliefs, Counts
from hsstar.domain.allocation.policy import Policy, Settings, State, make_table
from hsstar.domain.allocation.sharing import share_out
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.seeds import derived_seed, shuffle_key


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """A sample of a finished iteration."""

    correct: bool | None  # None without a verdict
    text: str | int  # equal texts, equal names
    reward: float | None = None  # its minimum over the steps


@dataclass(frozen=True, slots=True)
class RecordedProblem:
    """A problem of a finished iteration, with its samples by slot."""

    key: str
    level: Difficulty | None
    samples: Sequence[RecordedSample]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the replayed policies have in common."""

    n: int
    n_p: int
    waves: int
    limit: int  # times n
    cap: int  # pairs of a problem that count
    seed: int
    iteration: int
    trained: Collection[Difficulty] | None  # levels that pairs come from; None: every problem


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one repetition came to."""

    pairs: int
    capped_pairs: int
    distinct_pairs: int
    problems_with_pair: int
    samples: int
    imputed: int  # of them, samples that nobody has drawn


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcomes of a policy, as means over the repetitions."""

    pairs: float
    pairs_deviation: float
    capped_pairs: float
    distinct_pairs: float
    problems_with_pair: float
    imputed_share: float


def replay(
    problems: Sequence[RecordedProblem],
    policy: Policy,
    settings: Settings,
    prior: Sequence[float],
    rules: Rules,
    repetitions: int = 20,
) -> Replay:
    """Give the budget of a finished iteration away by another policy, and count what comes of it."""
    pool = _Pool(problems, prior, rules)
    outcomes = [_Repetition(pool, 0).run(policy, settings)]
    if outcomes[0].imputed:  # otherwise the others are equal
        outcomes += [_Repetition(pool, number).run(policy, settings) for number in range(1, repetitions)]
    pairs = [outcome.pairs for outcome in outcomes]
    return Replay(
        fmean(pairs),
        stdev(pairs) if len(pairs) > 1 else 0.0,
        fmean(outcome.capped_pairs for outcome in outcomes),
        fmean(outcome.distinct_pairs for outcome in outcomes),
        fmean(outcome.problems_with_pair for outcome in outcomes),
        fmean(outcome.imputed / max(1, outcome.samples) for outcome in outcomes),
    )


class _Pool:
    """What the repetitions have in common: the problems in the shuffle, and what is believed of them."""

    def __init__(self, problems: Sequence[RecordedProblem], prior: Sequence[float], rules: Rules) -> None:
        self.rules = rules
        self.beliefs = Beliefs(prior, max(rules.limit * rules.n, *(len(each.samples) for each in problems)))
        self.problems = sorted(
            problems, key=lambda each: shuffle_key(rules.seed, "remainder", rules.iteration, each.key)
        )
        self.texts = [
            {
                verdict: [each.text for each in problem.samples if each.correct is verdict]
                for verdict in (True, False)
            }
            for problem in self.problems
        ]
        """By problem, the texts of its correct and of its incorrect samples."""
        self._reached: dict[Counts, list[float]] = {}

    def pass_rate(self, place: int, chance: float) -> float:
        """Return the pass rate below which lies this share of what a problem's samples leave possible."""
        counts = len(self.texts[place][True]), len(self.texts[place][False])
        if counts not in self._reached:
            self._reached[counts] = list(accumulate(self.beliefs.weights(counts)))[:-1]
        return GRID[bisect_right(self._reached[counts], chance)]


class _Repetition:
    """One giving away, whose missing verdicts are drawn by its number."""

    def __init__(self, pool: _Pool, number: int) -> None:
        self._pool, self._rules, self._number = pool, pool.rules, number
        self._problems = pool.problems
        self._samples = [list(each.samples) for each in self._problems]
        self._drawn = [0] * len(self._problems)
        self._right, self._wrong = list(self._drawn), list(self._drawn)
        for place, samples in enumerate(self._samples):
            self._take(place, min(self._rules.n_p, len(samples)))

    def run(self, policy: Policy, settings: Settings) -> Outcome:
        rules = self._rules
        left = (rules.n - rules.n_p) * len(self._problems)
        for wave in range(rules.waves):
            budget = left // (rules.waves - wave)
            states = [self._state(place) for place in range(len(self._problems))]
            counts = Counter(states)
            table = make_table(policy, counts, budget, self._pool.beliefs, settings)
            shares = share_out(counts, table, budget)
            rest = shares.rest
            for place, state in enumerate(states):
                share = shares.by_state[state]
                more = share.one_more and rest > 0
                rest -= more
                if share.samples + more:
                    self._draw(place, share.samples + more)
                left -= share.samples + more
        return self._outcome()

    def _state(self, place: int) -> State:
        level = self._problems[place].level
        return State(self._right[place], self._wrong[place], self._drawn[place], level)

    def _draw(self, place: int, count: int) -> None:
        samples = self._samples[place]
        missing = self._drawn[place] + count - len(samples)
        if missing > 0:
            self._impute(place, missing)
        self._take(place, count)

    def _take(self, place: int, count: int) -> None:
        """Count the next samples of a problem, which are there."""
        first = self._drawn[place]
        taken = self._samples[place][first : first + count]
        self._drawn[place] += count
        self._right[place] += sum(sample.correct is True for sample in taken)
        self._wrong[place] += sum(sample.correct is False for sample in taken)

    def _impute(self, place: int, missing: int) -> None:
        samples, problem, texts = self._samples[place], self._problems[place], self._pool.texts[place]
        rate = self._pool.pass_rate(place, self._chance(problem, "rate"))
        for slot in range(len(samples), len(samples) + missing):
            correct = self._chance(problem, "verdict", slot) < rate
            like = texts[correct] or [f"imputed {slot}"]
            chance = self._chance(problem, "text", slot) if len(like) > 1 else 0.0
            samples.append(RecordedSample(correct, like[int(chance * len(like))]))

    def _chance(self, problem: RecordedProblem, what: str, slot: int = 0) -> float:
        """Return a number from 0 to less than 1, always the same for the same."""
        rules = self._rules
        seed = derived_seed(rules.seed, "replay", rules.iteration, problem.key, self._number, what, slot)
        return (seed >> 10) / 2**53

    def _outcome(self) -> Outcome:
        totals = [0] * 6
        for problem, samples, drawn in zip(self._problems, self._samples, self._drawn, strict=True):
            right = [sample.text for sample in samples[:drawn] if sample.correct is True]
            wrong = [sample.text for sample in samples[:drawn] if sample.correct is False]
            trained = self._rules.trained is None or problem.level in self._rules.trained
            pairs = min(len(right), len(wrong)) if trained else 0
            totals[0] += pairs
            totals[1] += min(pairs, self._rules.cap)
            totals[2] += len(set(zip(right[:pairs], wrong[:pairs], strict=True)))
            totals[3] += pairs > 0
            totals[4] += drawn
            totals[5] += max(0, drawn - len(problem.samples))
        return Outcome(*totals)
