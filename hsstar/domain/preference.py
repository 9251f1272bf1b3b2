"""Preference pairs from the samples of one problem (METHOD step 6)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.seeds import shuffle_key
from hsstar.domain.verdict import Verdict


class PairRule(StrEnum):
    """The rule by which each side keeps samples before they are matched."""

    HIGHEST_REWARD = "highest-reward"
    """Highest `S(r)` first on both sides: good solutions against hard negatives (the paper's rule)."""
    RANDOM = "random"
    """A seeded choice on both sides: needs no process reward model."""


class PairLength(StrEnum):
    """Whether the lengths of the two responses of a pair matter."""

    ANY = "any"
    """They do not."""
    MATCH = "match"
    """Rejected responses of like length first, matched by their order: pairs do not teach brevity."""


class PairCut(StrEnum):
    """What a correct response may be that was cut at its token limit."""

    LEAVE_OUT = "leave-out"
    """Nothing: who learns from it learns not to end."""
    KEEP = "keep"
    """Chosen, or an example to learn from, as any other."""


class SourceUse(StrEnum):
    """What is learnt from the samples of a source beside the policy."""

    CHOSEN = "chosen"
    """Correct ones may be chosen in pairs, or examples to learn from."""
    BOTH = "both"
    """Incorrect ones may also be rejected."""
    RECORD = "record"
    """Nothing: they are kept to be compared."""

    @property
    def teaches(self) -> bool:
        """Whether anything is learnt from them."""
        return self is not SourceUse.RECORD


LEARNT_FROM: Mapping[str, tuple[Verdict, ...]] = {
    "sft": (Verdict.CORRECT,),
    "kto": (Verdict.CORRECT, Verdict.INCORRECT),
}
"""The verdicts of the samples that an objective without pairs learns from; it needs some of each."""


Place = int | str
"""Where a sample of a problem stands: its slot, or `SOURCE:SLOT` where a source drew it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verified sample that may enter a pair."""

    slot: int
    verdict: Verdict | None
    minimum_reward: float | None
    response: str = ""
    tokens: int | None = None
    cut: bool = False  # at its token limit
    source: str = ""  # which drew it; empty: the policy
    rejects: bool = True  # whether it may be rejected, if it is incorrect

    @property
    def place(self) -> Place:
        """Where it stands."""
        return f"{self.source}:{self.slot}" if self.source else self.slot

    @property
    def may_be_rejected(self) -> bool:
        """Whether it may be what the policy is to do less."""
        return self.verdict is Verdict.INCORRECT and self.rejects

    def may_teach(self, cut: PairCut) -> bool:
        """Tell whether it may be chosen, or an example to learn from."""
        return self.verdict is Verdict.CORRECT and (not self.cut or cut is PairCut.KEEP)


@dataclass(frozen=True, slots=True)
class _Shuffles:
    seed: int
    iteration: int
    problem_key: str

    def place(self, purpose: str, candidate: Candidate) -> bytes:
        drawn_by = (candidate.source,) if candidate.source else ()
        return shuffle_key(self.seed, purpose, self.iteration, self.problem_key, candidate.slot, *drawn_by)

    def keep_order(self, rule: PairRule, candidate: Candidate) -> tuple[float, bytes, int, str]:
        if rule is PairRule.RANDOM:
            return 0.0, self.place("keep", candidate), candidate.slot, candidate.source
        return -(candidate.minimum_reward or 0.0), b"", candidate.slot, candidate.source

    def match_order(self, length: PairLength, candidate: Candidate) -> tuple[int, bytes]:
        tokens = (candidate.tokens or 0) if length is PairLength.MATCH else 0
        return tokens, self.place("match", candidate)


def select_pairs(
    candidates: Iterable[Candidate],
    rule: PairRule,
    *,
    seed: int,
    iteration: int,
    problem_key: str,
    at_most: int | None = None,
    distinct: bool = False,
    length: PairLength = PairLength.ANY,
    cut: PairCut = PairCut.LEAVE_OUT,
) -> list[tuple[Place, Place]]:
    """Return the (chosen, rejected) pairs of one problem, as the places of their samples.

    Each side keeps `K = min(#correct, #incorrect)` samples, or `at_most` if that is less. The kept samples
    are shuffled with the run's seed and matched one to one. Samples without a verdict enter no pair, nor do
    correct ones that were cut at the token limit, unless `cut` is keep. Of pairs with the same two texts
    `distinct` keeps the first. The samples of sources are candidates as the policy's own are.

    `length` match: the rejected ones that are kept are those whose number of tokens is closest to the mean of
    the chosen ones, and instead of a shuffle both sides are matched in the order of their lengths.

    Oracle for store/sql/pair.sql; `hsstar reverify` says by it what would change.
    """
    shuffles = _Shuffles(seed, iteration, problem_key)
    pool = list(candidates)
    sides = [
        sorted(side, key=lambda candidate: shuffles.keep_order(rule, candidate))
        for side in (
            [candidate for candidate in pool if candidate.may_teach(cut)],
            [candidate for candidate in pool if candidate.may_be_rejected],
        )
    ]
    kept = min(len(side) for side in sides)
    if at_most is not None:
        kept = min(kept, at_most)
    if length is PairLength.MATCH:
        aim = sum(candidate.tokens or 0 for candidate in sides[0][:kept])
        sides[1].sort(key=lambda candidate: abs((candidate.tokens or 0) * kept - aim))  # stable
    chosen, rejected = (
        sorted(side[:kept], key=lambda candidate: shuffles.match_order(length, candidate)) for side in sides
    )
    texts: set[tuple[str, str]] = set()
    found = []
    for good, bad in zip(chosen, rejected, strict=True):
        if not distinct or (good.response, bad.response) not in texts:
            texts.add((good.response, bad.response))
            found.append((good.place, bad.place))
    return found


def rows_seen(count: int, wanted: int | None, seed: int, iteration: int) -> list[int]:
    """Return which of `count` rows a training sees, by their places: `wanted` of them, None: each once.

    All rows come once before any comes again, each time in another seeded shuffle.
    """
    if wanted is None or not count:
        return list(range(count))
    found: list[int] = []
    for repetition in range(-(-wanted // count)):
        found += sorted(
            range(count),
            key=lambda place: shuffle_key(seed, "rows", iteration, repetition, place),
        )
    return found[:wanted]


def select_examples(
    candidates: Iterable[Candidate],
    rule: PairRule,
    *,
    seed: int,
    iteration: int,
    problem_key: str,
    at_most: int | None = None,
    cut: PairCut = PairCut.LEAVE_OUT,
    verdict: Verdict = Verdict.CORRECT,
) -> list[Place]:
    """Return the places of one problem's samples to learn from without pairs, in the order of the rule.

    They are those of one verdict, without correct ones cut at the token limit unless `cut` is keep; each
    response text once, at most `at_most`.

    Oracle for store/sql/example.sql; not called by the product.
    """
    shuffles = _Shuffles(seed, iteration, problem_key)
    pool = [
        candidate
        for candidate in candidates
        if candidate.verdict is verdict
        and (candidate.may_teach(cut) if verdict is Verdict.CORRECT else candidate.may_be_rejected)
    ]
    places: dict[str, Place] = {}
    for candidate in sorted(pool, key=lambda candidate: shuffles.keep_order(rule, candidate)):
        places.setdefault(candidate.response, candidate.place)
    return list(places.values())[:at_most]
