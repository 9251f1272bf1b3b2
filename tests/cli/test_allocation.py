"""`hsstar allocate` and `hsstar calibrate` on a run whose samples are there."""

from collections import Counter

import pytest

from hsstar.store.database import Database
from tests.cli.conftest import CommandLine, enqueue
from tests.store.factory import TRAIN

ROWS = """
    SELECT problem_id, verdict FROM samples JOIN rounds ON rounds.id = round_id
    WHERE kind = 'iteration' ORDER BY problem_id, slot
"""


@pytest.fixture
def finished(alone: CommandLine, shared: Database) -> CommandLine:
    """The run `r`, one iteration of which is done."""
    alone.use(shared)
    if not alone.rows("SELECT 1 FROM runs"):
        enqueue(alone, problems={"dataset": TRAIN, "per_iteration": 24})
        alone.worker().work()
    return alone


def test_the_policy_of_a_run_replayed_gives_what_the_run_has(finished: CommandLine) -> None:
    ((pairs, problems, distinct),) = finished.rows(
        "SELECT pairs, problems_with_pair, distinct_pairs FROM iteration_statistics"
    )
    (row,) = finished.json("allocate", "r", "--dry-run", "--policy", "levels")
    assert (row["pairs"], row["\u00b1"], row["imputed"]) == (str(pairs), "0", "0%")
    assert (row["problems with a pair"], row["distinct"]) == (str(problems), str(distinct))


def test_every_policy_of_ours_is_replayed_unless_some_are_asked_for(finished: CommandLine) -> None:
    rows = finished.json("allocate", "r", "--dry-run", "--iteration", "0", "--repetitions", "2")
    ours = ["levels", "uniform", "proportional", "variance", "knapsack", "stop", "pairs"]
    assert [row["policy"] for row in rows] == ours
    by_problem: dict[int, Counter[str]] = {}
    for problem, verdict in finished.rows(ROWS):
        by_problem.setdefault(problem, Counter())[verdict] += 1
    asked = "pairs,waves=2,worth=fading,ratio=0.5"
    own = "hsstar.domain.allocation.policies.stop:gains,pairs=1"
    rows = finished.json("allocate", "r", "--dry-run", "--policy", asked, "--policy", own)
    assert [row["policy"] for row in rows] == ["pairs waves=2 worth=fading ratio=0.5", own.replace(",", " ")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say --dry-run"),
        (("--dry-run", "--policy", "best"), "cannot be loaded"),
        (("--dry-run", "--policy", "pairs,waves"), "'waves' is no KEY=VALUE"),
        (("--dry-run", "--policy", "pairs,wave=4"), "unknown key 'wave'"),
        (("--dry-run", "--policy", "pairs,waves=0"), "greater than or equal to 1"),
        (("--dry-run", "--iteration", "7"), "has no iteration 7"),
    ],
)
def test_what_cannot_be_replayed_is_refused(
    finished: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    assert message in finished.refused("allocate", "r", *arguments)


def test_an_iteration_that_samples_is_refused(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().conductor.sweep()
    for command in (("allocate", "r", "--dry-run"), ("calibrate", "r")):
        assert cli.refused(*command) == "no iteration of 'r' has all its samples yet"
    assert "still samples" in cli.refused("allocate", "r", "--dry-run", "--iteration", "0")


def test_a_calibration_counts_every_further_sample_and_gives_advice(finished: CommandLine) -> None:
    found = finished.json("calibrate", "r")
    further = "samples JOIN rounds ON rounds.id = round_id JOIN iterations USING (round_id)"
    ((count,),) = finished.rows(
        f"SELECT count(*) FROM {further} WHERE slot >= pre_samples AND verdict IS NOT NULL"
    )
    assert sum(cell["further"] for cell in found["cells"]) == count > 0
    assert [forecast["known"] for forecast in found["forecasts"]] == ["count", "count and quality"]
    shown = finished.ok("calibrate", "r")
    assert all(line in shown for line in found["advice"])
    assert len(finished.csv("calibrate", "r")) == len(found["cells"])
    assert finished.json("calibrate", "r", "r") == found
    assert finished.refused("calibrate", "none") == "there is no run 'none' (runs: r)"
