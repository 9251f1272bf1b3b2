"""`hsstar study` from its file to its report, with a worker by hand in place of the real ones."""

import csv
import math
import statistics
from itertools import product
from pathlib import Path

import pytest

from hsstar.cli import study as command
from tests.cli.conftest import CommandLine, hold_up, working

STUDY = """
name = "tiny"
seeds = [100, 101, 102]
iterations = 2
reference = "uniform"
problems = "demo"
[recipe]
extends = "builtin:demo"
problems = { dataset = "tiny-train", per_iteration = 12 }
evaluation = { dataset = "tiny-heldout", problems = 9 }
[strategies.HS-STaR]
[strategies.uniform]
sampling.strategy = "uniform"
difficulty.train = ["inlier", "boundary", "outlier"]
"""
NO_WORKERS = "sample=0,score=0,verify=0,train=0"
RUNS = list(product((100, 101, 102), ("HS-STaR", "uniform")))

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def study(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A study file in the test's folder, and a look at the rows ten times a second."""
    (cli.folder / "tiny.toml").write_text(STUDY)
    monkeypatch.setattr(command, "_POLL_SECONDS", 0.1)
    return cli


def arguments(cli: CommandLine, *options: str) -> tuple[str, ...]:
    report = str(cli.folder / "report")
    return "study", str(cli.folder / "tiny.toml"), "--output", report, "--workers", NO_WORKERS, *options


def read(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_a_study_ends_with_a_report_that_says_what_its_rows_say(study: CommandLine) -> None:
    with working(study.database):
        said = study.ok(*arguments(study, "--at-once", "3"))
    assert "12 of 12" in said
    assert said.count("iteration 1 done") == 6
    assert "Report over 3 of 3 seeds: " in said.splitlines()[-1]
    folder = study.folder / "report"
    statistics_of = {
        (row["run"], row["iteration"]): row
        for row in study.json("sql", "select * from iteration_statistics")
    }  # fmt: skip
    runs = read(folder / "tiny-runs.csv")
    assert [(int(row["seed"]), row["strategy"], int(row["iteration"])) for row in runs] == [
        (seed, strategy, number) for seed, strategy in RUNS for number in (0, 1)
    ]
    same = ("problems", "inlier", "boundary", "outlier", "budget", "drawn", "pairs", "tokens")
    for row in runs:
        stored = statistics_of[f"tiny-{row['strategy']}-{row['seed']}", int(row["iteration"])]
        assert {name: int(row[name]) for name in same} == {name: stored[name] for name in same}
        for moment in ("before", "after"):
            assert float(row[f"accuracy_{moment}"]) == stored[f"heldout_accuracy_{moment}"]
            assert float(row[f"error_{moment}"]) == stored[f"heldout_error_{moment}"]

    def accuracies(strategy: str, policy: int) -> list[float]:
        moment = "after" if policy else "before"
        return [float(row[f"accuracy_{moment}"]) for row in runs
                if row["strategy"] == strategy and int(row["iteration"]) == max(0, policy - 1)]  # fmt: skip

    summary = read(folder / "tiny.csv")
    assert [(row["strategy"], row["policy"]) for row in summary] == [
        (strategy, str(policy)) for strategy in ("HS-STaR", "uniform") for policy in (0, 1, 2)
    ]
    for row in summary:
        own, reference = (accuracies(name, int(row["policy"])) for name in (row["strategy"], "uniform"))
        change = [value - other for value, other in zip(own, reference, strict=True)]
        half = 4.302652729911275 * statistics.stdev(change) / math.sqrt(3)  # t of 2 degrees at 97.5 %
        mean = statistics.fmean(change)
        expected = {
            "accuracy": statistics.fmean(own), "standard_error": statistics.stdev(own) / math.sqrt(3),
            "difference": mean, "difference_low": mean - half, "difference_high": mean + half,
        }  # fmt: skip
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-9)
        used = [line for line in runs if line["strategy"] == row["strategy"]]
        by_seed = [[line for line in used if line["seed"] == str(seed)] for seed in (100, 101, 102)]
        pairs = [sum(int(line["pairs"]) for line in lines) for lines in by_seed]
        drawn = [sum(int(line["drawn"]) for line in lines) for lines in by_seed]
        per_sample = [pair / sample for pair, sample in zip(pairs, drawn, strict=True)]
        assert float(row["pairs_per_sample"]) == pytest.approx(statistics.fmean(per_sample))
        assert float(row["share_trained"]) == pytest.approx(statistics.fmean(2 * p / 192 for p in pairs))
    text = (folder / "tiny.md").read_text()
    assert text.startswith("# Study tiny\n\n3 of 3 seeds (100, 101, 102), 2 iterations of 12 problems × 8")
    last = summary[2]
    points = [100 * float(last[name]) for name in ("difference", "difference_low", "difference_high")]
    assert "## Difference to uniform, in points" in text
    assert f"{points[0]:+.2f} [{points[1]:+.2f}, {points[2]:+.2f}] |" in text
    shown = f"{float(last['accuracy']):.4f} ± {float(last['standard_error']):.4f}"
    assert text.partition("| HS-STaR | ")[2].splitlines()[0].split(" | ")[2] == f"{shown} |"
    assert (folder / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "tiny.svg").read_text()
    again = study.ok(*arguments(study))  # nobody works now: only the report is written again
    assert "12 of 12 iterations are done" in again


def test_a_study_that_failed_jobs_hold_up_ends_with_1_and_names_the_runs(study: CommandLine) -> None:
    assert "tiny-HS-STaR-100" not in study.ok("status")
    with working(study.database):
        study.ok(*arguments(study))
    text = STUDY.replace("seeds = [100, 101, 102]", "seeds = [100, 101, 102, 103]")
    (study.folder / "tiny.toml").write_text(text.replace("per_iteration = 12", "per_iteration = 13"))
    message = study.refused(*arguments(study))
    assert message.startswith("run 'tiny-HS-STaR-100' is there with another recipe")
    assert hold_up
