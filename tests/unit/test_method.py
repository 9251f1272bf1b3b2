"""The rules of the method: seeds, difficulty (METHOD step 3), budget (step 4), preference pairs (step 6)."""

import re
from collections import Counter
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.allocation.budget import Budget, allot
from hsstar.domain.difficulty import (
    Difficulty,
    DifficultyEstimate,
    Signal,
    Thresholds,
    classify,
    estimate_difficulty,
)
from hsstar.domain.errors import BadInputError
from hsstar.domain.preference import (
    Candidate,
    PairLength,
    PairRule,
    Place,
    rows_seen,
    select_examples,
    select_pairs,
)
from hsstar.domain.seeds import derived_seed, evaluation_seed, shuffle_key, slot_seed
from hsstar.domain.text import content_key, storable
from hsstar.domain.verdict import Verdict

PROBLEM = "0123456789abcdef0123456789abcdef"
any_text = st.text(st.characters(exclude_categories=()))
parts = st.lists(st.integers() | st.text(), max_size=3)


def test_seeds_and_keys_are_the_same_on_every_machine_and_in_every_release() -> None:
    """A change here changes every run that was ever stored."""
    assert slot_seed(0, 0, PROBLEM, 0) == 1_309_411_703_537_824_601
    assert slot_seed(7, 2, PROBLEM, 5) == 4_337_977_124_985_788_392
    assert evaluation_seed(0, 0, PROBLEM, 0) == 7_232_893_516_461_671_599
    assert evaluation_seed(7, 2, PROBLEM, 5) == 4_482_457_490_229_492_076
    assert derived_seed(7, "study", 1, "x") == 6_567_036_019_023_970_958
    assert shuffle_key(7, "slice", PROBLEM) == sha256(f"7:slice:{PROBLEM}".encode()).digest()
    assert content_key("What is\n $1 + 1$?") == "ec9717030f96054c6821e7f9a2db44e3"


def test_every_slot_has_a_seed_of_its_own() -> None:
    problems = (f"{problem:032x}" for problem in range(40))
    addresses = list(product(range(3), range(3), problems, range(40)))
    seeds = {slot_seed(*address) for address in addresses}
    held_out = {evaluation_seed(*address) for address in addresses}
    assert len(seeds | held_out) == 2 * len(addresses)


@given(st.integers(0, 2**31 - 1), st.text(max_size=10), parts)
def test_a_seed_fits_a_signed_64_bit_integer(seed: int, purpose: str, parts: list[int | str]) -> None:
    assert 0 <= derived_seed(seed, purpose, *parts) < 2**63


def test_surrogates_are_replaced_and_bytes_that_are_no_text_are_not() -> None:
    assert storable("a\ud800\udfff\x00b") == "a\ufffd\ufffd\ufffdb"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", "hsstar.replace_surrogates")


@given(any_text)
def test_stored_text_is_valid_and_nothing_else_is_changed(text: str) -> None:
    stored = storable(text)
    stored.encode("utf-8")
    replaced = ("\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
    assert stored == "".join(replaced)
    assert storable(stored) == stored


@given(any_text)
def test_every_text_has_a_key(text: str) -> None:
    assert re.fullmatch("[0-9a-f]{32}", content_key(text))


PUBLISHED, QUALITIES = Thresholds(0.15, 0.65), (0.14, 0.15, 0.65, 0.66)


@pytest.mark.parametrize(
    ("signal", "levels"),
    [
        (Signal.ACCURACY_AND_REWARD, ["BBBI", "BBBB", "BBBB", "OBBB"]),
        (Signal.ACCURACY, ["IIII", "BBBB", "BBBB", "OOOO"]),
        (Signal.REWARD, ["OBBI", "OBBI", "OBBI", "OBBI"]),
    ],
)
def test_one_signal_decides_alone_and_two_have_to_agree(signal: Signal, levels: list[str]) -> None:
    """Rows: all right to none right. Columns: rewards below τ_l, at τ_l, at τ_h, above τ_h."""
    found = [
        [classify(DifficultyEstimate(right / 3, quality), signal, PUBLISHED) for quality in QUALITIES]
        for right in (3, 2, 1, 0)
    ]
    assert ["".join(level.name[0] for level in row) for row in found] == levels


def test_accuracy_alone_needs_no_reward() -> None:
    found = [classify(DifficultyEstimate(right / 2, None), Signal.ACCURACY, PUBLISHED) for right in (2, 1, 0)]
    assert found == list(Difficulty)


@pytest.mark.parametrize("signal", [Signal.ACCURACY_AND_REWARD, Signal.REWARD])
def test_a_signal_that_needs_rewards_says_so_when_there_are_none(signal: Signal) -> None:
    assert signal.needs_reward
    with pytest.raises(BadInputError, match=f"{signal.value!r} needs rewards, and the samples have none"):
        classify(DifficultyEstimate(1.0, None), signal, PUBLISHED)


def test_every_sample_counts_by_its_own_row() -> None:
    assert estimate_difficulty([True, True, False], [0.25, 0.25, 1.0]) == DifficultyEstimate(2 / 3, 0.5)
    assert estimate_difficulty([True] * 7, None) == DifficultyEstimate(1.0, None)
    assert estimate_difficulty([False] * 3, [0.0] * 3) == DifficultyEstimate(0.0, 0.0)


def test_without_pre_samples_there_is_no_estimate() -> None:
    with pytest.raises(BadInputError, match="without pre-samples"):
        estimate_difficulty([], [])


@pytest.mark.parametrize(
    ("low", "high"), [(0.65, 0.15), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)]
)
def test_thresholds_are_ordered_and_within_the_range_of_rewards(low: float, high: float) -> None:
    with pytest.raises(BadInputError, match="0 ≤ tau_low < tau_high ≤ 1, got tau_low = "):
        Thresholds(low, high)


def test_thresholds_may_be_the_ends_of_that_range() -> None:
    assert Thresholds(0, 1) == Thresholds(0.0, 1.0)


INLIER, BOUNDARY, _ = Difficulty

budgets = st.integers(1, 12).flatmap(lambda n: st.builds(Budget, st.just(n), st.integers(1, n)))
keys, some_level = st.text("0123456789abcdef", min_size=1, max_size=6), st.sampled_from([None, *Difficulty])
found_levels = st.dictionaries(keys, some_level, min_size=1, max_size=40)
Levels = dict[str, Difficulty | None]
chosen_levels = st.sets(st.sampled_from(Difficulty))


def test_the_remainder_goes_one_each_to_problems_picked_by_the_seed() -> None:
    levels = {str(number): BOUNDARY if number < 4 else INLIER for number in range(10)}
    picked = Counter[str]()
    for seed in range(200):
        allotments = allot(Budget(4, 3), levels, [BOUNDARY], seed=seed, iteration=0)
        assert sorted(allotments[str(number)] for number in range(4)) == [5, 5, 6, 6]  # 10 = 4 · 2 + 2
        picked.update(key for key, samples in allotments.items() if samples == 6)
    assert all(60 < picked[str(number)] < 140 for number in range(4))


def test_the_same_problems_get_the_remainder_in_every_release() -> None:
    levels = {str(number): BOUNDARY if number < 7 else INLIER for number in range(10)}
    expected = {(7, 2): "5444554333", (7, 3): "4544545333", (8, 2): "5554444333"}
    for (seed, iteration), spread in expected.items():
        allotments = allot(Budget(4, 3), levels, [BOUNDARY], seed=seed, iteration=iteration)
        assert "".join(map(str, allotments.values())) == spread


@given(budgets, found_levels, chosen_levels, st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_the_budget_is_met_exactly_or_nothing_is_resampled(
    budget: Budget, levels: Levels, resampled: set[Difficulty], seed: int, iteration: int
) -> None:
    allotments = allot(budget, levels, resampled, seed=seed, iteration=iteration)
    chosen = [allotments[key] for key, level in levels.items() if level in resampled]
    others = [allotments[key] for key, level in levels.items() if level not in resampled]
    assert set(others) <= {budget.pre_samples}
    if chosen:
        assert sum(allotments.values()) == budget.total(len(levels))
        assert max(chosen) - min(chosen) <= 1
    else:
        assert sum(allotments.values()) == budget.pre_samples * len(levels)


@given(budgets, found_levels, st.integers(0, 2**31 - 1))
def test_the_order_of_problems_does_not_matter(budget: Budget, levels: Levels, seed: int) -> None:
    backwards = allot(budget, dict(reversed(levels.items())), [BOUNDARY], seed=seed, iteration=0)
    assert allot(budget, levels, [BOUNDARY], seed=seed, iteration=0) == backwards


@pytest.mark.parametrize(("n", "n_p"), [(3, 4), (3, 0), (0, 0)])
def test_pre_samples_are_part_of_the_budget(n: int, n_p: int) -> None:
    with pytest.raises(BadInputError, match=f"1 ≤ n_p ≤ n, got n_p = {n_p}, n = {n}"):
        Budget(n, n_p)


RIGHT, WRONG = Verdict
RANKED, CHANCE = PairRule
most = st.none() | st.integers(1, 4)
verdicts, rewards = st.none() | st.sampled_from(Verdict), st.sampled_from([None, 0.0, 0.25, 0.5, 0.75, 1.0])
candidates = st.lists(st.tuples(verdicts, rewards), max_size=12).map(
    lambda drawn: [Candidate(slot, *values) for slot, values in enumerate(drawn)]
)


def pairs_of(
    found: list[Candidate], rule: PairRule = RANKED, seed: int = 0, at_most: int | None = None
) -> list[tuple[Place, Place]]:
    return select_pairs(found, rule, seed=seed, iteration=0, problem_key="x", at_most=at_most)


@given(candidates, st.sampled_from(PairRule), most, st.integers(0, 99))
def test_pairs_are_right_against_wrong_and_use_a_sample_once(
    drawn: list[Candidate], rule: PairRule, at_most: int | None, seed: int
) -> None:
    pairs = pairs_of(drawn, rule, seed, at_most)
    by_place = {candidate.place: candidate.verdict for candidate in drawn}
    sides = Counter(by_place.values())
    assert len(pairs) == min(sides[RIGHT], sides[WRONG], at_most or len(drawn))
    assert all((by_place[good], by_place[bad]) == (RIGHT, WRONG) for good, bad in pairs)
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

    both = (RANKED, CHANCE)  # of equal rewards the first slots
    assert [slots(rule) for rule in both] == ["27 36 04 15", "27 36 08 14"]
    assert [slots(rule, at_most=2) for rule in both] == ["04 15", "07 14"]
    for rule, others in ((RANKED, ("07 16 24 35", "37 14 05 26")), (CHANCE, ("07 16 24 35", "34 15 08 26"))):
        assert (slots(rule, iteration=3), slots(rule, problem_key="y")) == others
        assert slots(rule, seed=8) != slots(rule)


def test_the_random_rule_does_not_look_at_rewards() -> None:
    drawn = [Candidate(slot, RIGHT if slot < 4 else WRONG, slot / 8) for slot in range(8)]
    blind = [Candidate(candidate.slot, candidate.verdict, None) for candidate in drawn]
    kept = set()
    for seed in range(30):
        pairs = pairs_of(drawn, CHANCE, seed, at_most=1)
        assert pairs == pairs_of(blind, CHANCE, seed, at_most=1)
        kept.update(pairs)
    assert {good for good, _ in kept} == {0, 1, 2, 3}


def test_pairs_with_the_same_two_texts_are_repeated_or_not_as_asked() -> None:
    texts = ["a", "a", "a", "b", "c", "c", "c", "c"]
    drawn = [Candidate(slot, RIGHT if slot < 4 else WRONG, 0.5, text) for slot, text in enumerate(texts)]
    pairs = select_pairs(drawn, RANKED, seed=0, iteration=0, problem_key="x")
    kept = select_pairs(drawn, RANKED, seed=0, iteration=0, problem_key="x", distinct=True)
    assert len(pairs) == 4
    assert [pair for pair in pairs if pair in kept] == kept
    assert sorted(texts[int(good)] + texts[int(bad)] for good, bad in kept) == ["ac", "bc"]


def test_a_source_may_be_chosen_and_rejected_as_asked() -> None:
    own = [Candidate(slot, WRONG, 0.5) for slot in range(2)]
    for rejects in (False, True):
        taught = [
            Candidate(0, RIGHT, 0.5, source="t", rejects=rejects),
            Candidate(1, WRONG, 0.9, source="t", rejects=rejects),
        ]
        assert pairs_of([*own, *taught]) == [("t:0", "t:1" if rejects else 0)]


def test_matched_lengths_take_the_wrong_ones_that_are_as_long_and_pair_short_with_short() -> None:
    lengths = [40, 20, 90, 21, 60, 39, 10]
    drawn = [
        Candidate(slot, RIGHT if slot < 2 else WRONG, 0.5, tokens=tokens)
        for slot, tokens in enumerate(lengths)
    ]
    address: dict[str, Any] = {"seed": 0, "iteration": 0, "problem_key": "x"}
    pairs = select_pairs(drawn, RANKED, length=PairLength.MATCH, **address)
    assert [(lengths[int(good)], lengths[int(bad)]) for good, bad in pairs] == [(20, 21), (40, 39)]
    blind = [Candidate(each.slot, each.verdict, 0.5) for each in drawn]
    assert select_pairs(blind, RANKED, length=PairLength.MATCH, **address) == pairs_of(drawn)


@pytest.mark.parametrize("wanted", [None, 1, 4, 5, 13])
def test_a_training_sees_every_row_once_before_any_comes_again(wanted: int | None) -> None:
    seen = rows_seen(5, wanted, seed=3, iteration=1)
    assert len(seen) == (5 if wanted is None else wanted)
    assert all(set(seen[start : start + 5]) == {0, 1, 2, 3, 4} for start in range(0, len(seen) - 4, 5))
    assert len(set(seen)) == min(5, len(seen))
    assert rows_seen(0, wanted, seed=3, iteration=1) == []
    others = [rows_seen(5, 13, seed=3, iteration=2), rows_seen(5, 13, seed=4, iteration=1)]
    assert rows_seen(5, 13, seed=3, iteration=1) not in others


def test_fine_tuning_learns_from_correct_samples_only_and_from_each_text_once() -> None:
    samples = ((RIGHT, 0.2, "a"), (WRONG, 0.9, "b"), (RIGHT, 0.8, "a"), (None, 1.0, "c"), (RIGHT, 0.5, "d"))
    drawn = [Candidate(slot, *sample) for slot, sample in enumerate(samples)]

    def kept(rule: PairRule, at_most: int | None = None) -> list[Place]:
        return select_examples(drawn, rule, seed=0, iteration=0, problem_key="x", at_most=at_most)

    assert (kept(RANKED), kept(RANKED, at_most=1)) == ([2, 4], [2])
    assert set(kept(CHANCE)) in ({0, 4}, {2, 4})
