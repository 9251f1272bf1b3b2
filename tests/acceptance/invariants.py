"""What has to hold for the rows of every finished run, whatever happened on the way."""

from itertools import groupby
from typing import Any

from hsstar.domain.difficulty import Signal, Thresholds, classify, estimate_difficulty
from tests.acceptance.conftest import Home


def check_finished_run(home: Home, run: str, recipe: dict[str, Any]) -> None:
    """Asserts the promises of a finished run: budget, slots, labels, pairs."""
    _check_budget(home, run, recipe["sampling"])
    _check_labels(home, run, recipe["difficulty"])
    _check_pairs(home, run)


def _check_budget(home: Home, run: str, sampling: dict[str, Any]) -> None:
    """Every slot below the allotment is there once, verified and scored, and the budget is spent."""
    for row in home.query(f"select * from iteration_statistics where run = '{run}'"):
        assert row["state"] == "done"
        assert row["budget"] == sampling["n"] * row["problems"]
        assert row["drawn"] == row["budget"] or not row["boundary"]
        assert row["drawn_pre"] == sampling["n_p"] * row["problems"]
        assert row["inlier"] + row["boundary"] + row["outlier"] == row["problems"]
    allotted = home.query(
        "select iteration, problem_id, allotment, allotment as slots, allotment as last, allotment as"
        f" verified, allotment as scored from remaining_budget where run = '{run}' order by 1, 2"
    )
    assert allotted == home.query(
        "select iteration, problem_id, count(*) as allotment, count(distinct slot) as slots,"
        " max(slot) + 1 as last, count(cause) as verified, count(min_reward) as scored"
        f" from sample_facts where run = '{run}' group by 1, 2 order by 1, 2"
    )
    columns = ("drawn", "verified", "scored", "tokens")
    counted = ", ".join(f"sum({column}) as {column}" for column in columns)
    present = (
        "count(*) as drawn, count(cause) as verified, count(min_reward) as scored, sum(tokens) as tokens"
    )
    assert home.query(f"select round_id, {counted} from sample_counts group by 1 order by 1") == home.query(
        f"select round_id, {present} from samples group by 1 order by 1"
    )
    assert not home.query(
        "select id from jobs join job_items on job_id = id where kind = 'sample'"
        " group by id having sum(cardinality(slots)) <> drawn"
    )
    unspent = f"from remaining_budget where run = '{run}' and (remaining > 0 or in_flight > 0)"
    assert not home.query(f"select * {unspent}")


def _check_labels(home: Home, run: str, difficulty: dict[str, Any]) -> None:
    """The stored labels are those that the pure rule finds from samples and rewards."""
    thresholds = Thresholds(difficulty["tau_low"], difficulty["tau_high"])
    rows = home.query(
        "select iteration, problem_id, verdict, min_reward, difficulty from sample_facts"
        f" where run = '{run}' and phase = 'pre' order by iteration, problem_id, slot"
    )
    assert rows
    for _, group in groupby(rows, key=lambda row: (row["iteration"], row["problem_id"])):
        samples = list(group)
        found = estimate_difficulty(
            [sample["verdict"] == "correct" for sample in samples],
            [sample["min_reward"] for sample in samples],
        )
        assert samples[0]["difficulty"] == classify(found, Signal(difficulty["signal"]), thresholds)


def _check_pairs(home: Home, run: str) -> None:
    """Every pair is a correct sample, perhaps of a source, and an incorrect one of one boundary problem."""
    broken = home.query(
        "select pairs.id from preference_pairs as pairs"
        " join rounds on rounds.id = pairs.round_id join runs on runs.id = rounds.run_id"
        " join samples as chosen on chosen.id = chosen_sample_id"
        " join samples as rejected on rejected.id = rejected_sample_id"
        " left join rounds as source on source.id = chosen.round_id and source.kind = 'source'"
        " left join rounds as taught on taught.run_id = source.run_id and taught.number = source.number"
        " and taught.kind = 'iteration'"
        " join difficulty_labels as labels on labels.round_id = pairs.round_id"
        " and labels.problem_id = pairs.problem_id"
        f" where runs.name = '{run}' and (chosen.verdict, rejected.verdict, labels.level, chosen.problem_id,"
        " coalesce(taught.id, chosen.round_id), rejected.problem_id, rejected.round_id) is distinct from"
        " ('correct', 'incorrect', 'boundary', pairs.problem_id, pairs.round_id, pairs.problem_id,"
        " pairs.round_id)"
    )
    assert not broken
