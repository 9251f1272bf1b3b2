"""A replay: exact where all samples are there, and right on average where they have to be imputed."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hsstar.domain.allocation.belief import empirical_prior
from hsstar.domain.allocation.policy import Settings, find_policy
from hsstar.domain.allocation.replay import RecordedProblem, RecordedSample, Replay, Rules, replay
from hsstar.domain.difficulty import Difficulty

N, N_P, PROBLEMS, LIMIT = 8, 3, 250, 4
RULES = Rules(N, N_P, waves=1, limit=LIMIT, cap=4, seed=0, iteration=0, trained=None)
OURS = ("levels", "uniform", "proportional", "variance", "knapsack", "stop", "pairs")


def pool(seed: int) -> list[RecordedProblem]:
    """Problems with as many samples as a policy may ever give them; half of them are nearly hopeless."""
    chance = random.Random(seed)
    found = []
    for number in range(PROBLEMS):
        rate = chance.choice([0.02, chance.random()])
        verdicts = [chance.random() < rate for _ in range(LIMIT * N)]
        known = sum(verdicts[:N_P])
        level = {0: Difficulty.OUTLIER, N_P: Difficulty.INLIER}.get(known, Difficulty.BOUNDARY)
        samples = [RecordedSample(correct, f"{correct} {chance.randrange(6)}") for correct in verdicts]
        found.append(RecordedProblem(f"problem {number}", level, samples))
    return found


def replayed(
    problems: Sequence[RecordedProblem], name: str, waves: int = 1, repetitions: int = 20, pairs: int = 4
) -> Replay:
    counts = Counter(
        (right, N_P - right)
        for right in (sum(bool(sample.correct) for sample in each.samples[:N_P]) for each in problems)
    )
    rules = replace(RULES, waves=waves)
    return replay(
        problems, find_policy(name), Settings(pairs=pairs), empirical_prior(counts), rules, repetitions
    )


@pytest.mark.parametrize("name", OURS)
def test_what_is_replayed_on_samples_that_are_all_there_is_exact_and_the_same_each_time(name: str) -> None:
    found = replayed(pool(1), name, waves=2, repetitions=3)
    assert (found.imputed_share, found.pairs_deviation) == (0.0, 0.0)
    assert found == replayed(pool(1)[::-1], name, waves=2, repetitions=1)
    if name == "uniform":
        first = [Counter(sample.correct for sample in each.samples[:N]) for each in pool(1)]
        pairs = [min(counts[True], counts[False]) for counts in first]
        assert found.pairs == sum(pairs)
        assert found.capped_pairs == sum(min(number, 4) for number in pairs)
        assert found.problems_with_pair == sum(number > 0 for number in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levels", "proportional", "stop", "pairs"])
def test_imputed_verdicts_are_right_on_average(name: str) -> None:
    """The same policy on the whole pool says what it comes to; a run has n samples of each problem."""
    errors, imputed, wanted = [], [], 1 if name == "stop" else 4
    for seed in range(6):
        whole = pool(seed)
        run = [replace(each, samples=each.samples[:N]) for each in whole]
        truth, found = replayed(whole, name, 1, 1, wanted), replayed(run, name, 1, 20, wanted)
        errors.append((found.pairs - truth.pairs) / truth.pairs)
        imputed.append(found.imputed_share)
    assert min(imputed) > 0.02
    assert abs(sum(errors) / len(errors)) < 0.05, errors


def test_pairs_come_from_the_trained_levels_alone() -> None:
    rules = replace(RULES, trained=(Difficulty.BOUNDARY,))
    counts = Counter((right, N_P - right) for right in range(N_P + 1))
    flat = empirical_prior(counts)
    only, all_of_them = (
        replay(pool(2), find_policy("uniform"), Settings(), flat, of, 1) for of in (rules, RULES)
    )
    boundary = [each for each in pool(2) if each.level is Difficulty.BOUNDARY]
    expected = 0
    for each in boundary:
        verdicts = Counter(sample.correct for sample in each.samples[:N])
        expected += min(verdicts[True], verdicts[False])
    assert only.pairs == expected < all_of_them.pairs
