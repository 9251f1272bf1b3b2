"""Histograms and the ledger of an iteration count each problem and sample once, as plain counting does."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.store import method
from hsstar.store.read import figures
from hsstar.store.read.figures import BUCKETS, BucketCount
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import add_iteration, add_run

Counted = Counter[tuple[str, str, int, float]]

drawn = st.builds(
    factory.Drawn,
    cause=st.none() | st.sampled_from([Cause.CORRECT, Cause.INCORRECT, Cause.NO_ANSWER, Cause.TIMED_OUT]),
    reward=st.none() | st.sampled_from([0.0, 0.049, 0.25, 0.51, 0.999, 1.0]),
    tokens=st.none() | st.sampled_from([0, 1, 7, 19, 20, 399, 400, 4096]),
)


def counted(rows: list[BucketCount]) -> Counted:
    return Counter({(row.figure, row.series, row.bucket, row.upper): row.number for row in rows})


def place(value: float, upper: float) -> int:
    return min(int(value * BUCKETS / upper), BUCKETS - 1)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(drawn, max_size=6), min_size=1, max_size=4))
def test_each_judged_sample_is_in_a_bucket_of_each_figure_that_it_has(
    scratch: Scratch, groups: list[list[factory.Drawn]]
) -> None:
    with scratch() as connection:
        run, ids = add_run(connection), factory.add_problems(connection, len(groups))
        for number in range(2):  # the second iteration has the same samples: both together count twice
            iteration = add_iteration(connection, run, ids, number)
            factory.add_samples(
                connection,
                iteration.id,
                {problem: dict(enumerate(group)) for problem, group in zip(ids, groups, strict=True)},
            )
        judged = [of for group in groups for of in group if of.cause and VERDICT_OF_CAUSE[of.cause]]
        longest = max([1, *(of.tokens or 0 for of in judged)])
        expected: Counted = Counter()
        for of in judged:
            verdict = VERDICT_OF_CAUSE[of.cause]  # type: ignore[index]
            if of.reward is not None:
                expected["reward", str(verdict), place(of.reward, 1), 1.0] += 1
            if of.tokens is not None:
                expected["tokens", str(verdict), place(of.tokens, longest), longest] += 1
        assert counted(figures.sample_distributions(connection, run.id, 1)) == expected
        both = counted(figures.sample_distributions(connection, run.id, None))
        assert both == Counter({key: 2 * number for key, number in expected.items()})


def test_each_problem_is_in_a_bucket_of_its_level_and_of_its_pairs(connection: Connection) -> None:
    run, (first, second, third) = add_run(connection), factory.add_problems(connection, 3)
    iteration = add_iteration(connection, run, [first, second, third])
    right, wrong = factory.Drawn(Cause.CORRECT, 0.9), factory.Drawn(Cause.INCORRECT, 0.1)
    of_each: dict[int, list[factory.Drawn]] = {
        first: [right, wrong, right, wrong], second: [right, right, right, right], third: [wrong, right]
    }  # fmt: skip
    factory.add_samples(
        connection, iteration.id, {problem: dict(enumerate(of)) for problem, of in of_each.items()}
    )
    factory.add_labels(connection, iteration.id, {first: "boundary", second: "inlier", third: "boundary"})
    method.build_pairs(connection, run, iteration)
    rows = factory.select(connection, "SELECT level, accuracy, process_quality FROM difficulty_labels")
    expected: Counted = Counter()
    for level, accuracy, quality in rows:
        if accuracy is not None:
            expected["accuracy", level, place(accuracy, 1), 1.0] += 1
        if quality is not None:
            expected["process_quality", level, place(quality, 1), 1.0] += 1
    pairs = Counter(
        count for (count,) in factory.select(
            connection, "SELECT count(*) FROM preference_pairs GROUP BY problem_id"
        )
    )  # fmt: skip
    assert pairs == {2: 1, 1: 1}
    for number, problems in pairs.items():
        expected["pairs", "pairs", number - 1, float(BUCKETS)] += problems
    found: Any = counted(figures.problem_distributions(connection, run.id, 0))
    assert found == expected
    assert counted(figures.problem_distributions(connection, run.id, 1)) == Counter()
    (entry,) = figures.ledger(connection, run.id, 0)
    assert (entry.samples, entry.correct, entry.in_a_pair) == (10, 7, 6)
    assert (entry.chosen, entry.tokens_chosen) == (entry.rejected, entry.tokens_rejected) == (3, 30)
