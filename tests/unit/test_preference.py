"""Preference pairs: right against wrong, the highest minimum reward first on both sides (METHOD step 6)."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.preference import Candidate, PairRule, select_examples, select_pairs
from hsstar.domain.verdict import Verdict

RIGHT, WRONG = Verdict

most = st.none() | st.integers(1, 4)
verdicts, rewards = st.none() | st.sampled_from(Verdict), st.sampled_from([None, 0.0, 0.25, 0.5, 0.75, 1.0])
candidates = st.lists(st.tuples(verdicts, rewards), max_size=12).map(
    lambda drawn: [Candidate(slot, *values) for slot, values in enumerate(drawn)]
)


def pairs_of(
    found: list[Candidate],
    rule: PairRule = PairRule.HIGHEST_REWARD,
    seed: int = 0,
    at_most: int | None = None,
) -> list[tuple[int, int]]:
    return select_pairs(found, rule, seed=seed, iteration=0, problem_key="x", at_most=at_most)


@given(candidates, st.sampled_from(PairRule), most, st.integers(0, 99))
def test_pairs_are_right_against_wrong_and_use_a_sample_once(
    drawn: list[Candidate], rule: PairRule, at_most: int | None, seed: int
) -> None:
    pairs = pairs_of(drawn, rule, seed, at_most)
    sides = Counter(candidate.verdict for candidate in drawn)
    by_slot = {candidate.slot: candidate.verdict for candidate in drawn}
    expected = min(sides[RIGHT], sides[WRONG])
    assert len(pairs) == (expected if at_most is None else min(expected, at_most))
    assert all((by_slot[good], by_slot[bad]) == (RIGHT, WRONG) for good, bad in pairs)
    used = [slot for pair in pairs for slot in pair]
    assert len(used) == len(set(used))


@given(candidates, most, st.integers(0, 99))
def test_good_solutions_meet_hard_negatives(drawn: list[Candidate], at_most: int | None, seed: int) -> None:
    """On neither side has one that is left out a higher reward than one that is used."""
    used = {slot for pair in pairs_of(drawn, seed=seed, at_most=at_most) for slot in pair}
    for verdict in Verdict:
        own = [candidate for candidate in drawn if candidate.verdict is verdict]
        kept = [candidate.minimum_reward or 0.0 for candidate in own if candidate.slot in used]
        left = [candidate.minimum_reward or 0.0 for candidate in own if candidate.slot not in used]
        if kept and left:
            assert min(kept) >= max(left)


@given(candidates, st.sampled_from(PairRule), st.integers(0, 99))
def test_the_order_of_arrival_does_not_matter(drawn: list[Candidate], rule: PairRule, seed: int) -> None:
    assert pairs_of(drawn, rule, seed) == pairs_of(drawn[::-1], rule, seed)


def test_who_meets_whom_is_decided_by_the_address_and_the_same_in_every_release() -> None:
    drawn = [Candidate(slot, RIGHT if slot < 4 else WRONG, 0.5) for slot in range(9)]

    def slots(rule: PairRule, **address: Any) -> str:
        usual: dict[str, Any] = {"seed": 7, "iteration": 2, "problem_key": "x"}
        return " ".join(f"{good}{bad}" for good, bad in select_pairs(drawn, rule, **usual | address))

    ranked, chance = PairRule.HIGHEST_REWARD, PairRule.RANDOM
    assert slots(ranked) == "27 36 04 15"  # of equal rewards the first slots
    assert slots(ranked, at_most=2) == "04 15"
    assert slots(chance) == "27 36 08 14"
    assert slots(chance, at_most=2) == "07 14"
    for rule, others in ((ranked, ("07 16 24 35", "37 14 05 26")), (chance, ("07 16 24 35", "34 15 08 26"))):
        assert (slots(rule, iteration=3), slots(rule, problem_key="y")) == others
        assert slots(rule, seed=8) != slots(rule)


def test_the_random_rule_does_not_look_at_rewards() -> None:
    drawn = [Candidate(slot, RIGHT if slot < 4 else WRONG, slot / 8) for slot in range(8)]
    blind = [Candidate(candidate.slot, candidate.verdict, None) for candidate in drawn]
    kept = set()
    for seed in range(30):
        pairs = pairs_of(drawn, PairRule.RANDOM, seed, at_most=1)
        assert pairs == pairs_of(blind, PairRule.RANDOM, seed, at_most=1)
        kept.update(pairs)
    assert {good for good, _ in kept} == {0, 1, 2, 3}


def test_fine_tuning_learns_from_correct_samples_only_and_from_each_text_once() -> None:
    drawn = [
        (Candidate(slot, verdict, reward), response)
        for slot, (verdict, reward, response) in enumerate(
            [(RIGHT, 0.2, "a"), (WRONG, 0.9, "b"), (RIGHT, 0.8, "a"), (None, 1.0, "c"), (RIGHT, 0.5, "d")]
        )
    ]

    def kept(rule: PairRule, at_most: int | None = None) -> list[int]:
        return select_examples(drawn, rule, seed=0, iteration=0, problem_key="x", at_most=at_most)

    assert kept(PairRule.HIGHEST_REWARD) == [2, 4]
    assert kept(PairRule.HIGHEST_REWARD, at_most=1) == [2]
    assert set(kept(PairRule.RANDOM)) in ({0, 4}, {2, 4})
