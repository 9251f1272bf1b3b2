"""`hsstar study` from its file to its report, with one worker without broker in place of the real ones."""

import csv
import math
import re
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from hsstar.cli import study as command
from hsstar.demo.family import ArithmeticExpression, value_of
from hsstar.engines.sampling.contract import Completion
from hsstar.store.read.studies import RunState
from hsstar.study.document import load_study
from tests.cli.conftest import CommandLine, hold_up, working
from tests.deterministic import DeterministicSampler

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


class DemoSampler(DeterministicSampler):
    """Reads the number of a problem from the demo's arithmetic."""

    def _complete(self, prompt: str, seed: int) -> Completion:
        operands = tuple(int(number) for number in re.findall(r"\d+", prompt))
        expression = ArithmeticExpression(operands, tuple(re.findall(r"[-+*]", prompt)))
        return super()._complete(f"problem {value_of(expression)}", seed)


@pytest.fixture
def study(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A study file in the test's folder, and a look at the rows ten times a second."""
    (cli.folder / "tiny.toml").write_text(STUDY)
    monkeypatch.setattr(command, "_POLL_SECONDS", 0.1)
    cli.sampler = DemoSampler
    return cli


def arguments(cli: CommandLine, *options: str) -> tuple[str, ...]:
    report = str(cli.folder / "report")
    return "study", str(cli.folder / "tiny.toml"), "--output", report, "--workers", NO_WORKERS, *options


def read(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_a_study_ends_with_a_report_that_says_what_its_rows_say(study: CommandLine) -> None:
    with working(study):
        said = study.ok(*arguments(study, "--at-once", "3"))
    assert "12 of 12" in said
    assert said.count("iteration 1 done") == 6
    assert "Report over 3 of 3 seeds: " in said.splitlines()[-1]
    with study.database.begin() as connection:
        connection.execute(text("UPDATE evaluations SET accuracy = round_id * 37 % 100 / 100.0"))
    again = study.ok(*arguments(study))  # nobody works now: only the report is written again
    assert "12 of 12 iterations are done" in again
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
    page = (folder / "tiny.md").read_text()
    assert page.startswith("# Study tiny\n\n3 of 3 seeds (100, 101, 102), 2 iterations of 12 problems × 8")
    last = summary[2]
    points = [100 * float(last[name]) for name in ("difference", "difference_low", "difference_high")]
    assert "## Difference to uniform, in points" in page
    assert f"{points[0]:+.2f} [{points[1]:+.2f}, {points[2]:+.2f}] |" in page
    shown = f"{float(last['accuracy']):.4f} ± {float(last['standard_error']):.4f}"
    assert page.partition("| HS-STaR | ")[2].splitlines()[0].split(" | ")[2] == f"{shown} |"
    assert (folder / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "tiny.svg").read_text()
    (study.folder / "tiny.toml").write_text(STUDY.replace("per_iteration = 12", "per_iteration = 13"))
    assert study.refused(*arguments(study)).startswith("run 'tiny-HS-STaR-100' is there with another recipe")


def let_time_pass(patch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Has something happen in place of the pause between two looks at the rows."""
    clock = SimpleNamespace(sleep=lambda seconds: action(), monotonic=time.monotonic)
    patch.setattr(command, "time", clock)


def test_a_study_that_failed_jobs_hold_up_ends_with_1_and_names_the_runs(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.folder / "tiny.toml").write_text(STUDY.replace("[100, 101, 102]", "[100, 101]"))
    let_time_pass(monkeypatch, lambda: hold_up(study))
    runs = [f"tiny-{strategy}-{seed}" for seed in (100, 101) for strategy in ("HS-STaR", "uniform")]
    called = study(*arguments(study, "--at-once", "1"))
    assert called.code == 1
    assert called.err.startswith(f"hsstar: failed jobs hold up {', '.join(runs)}; see hsstar jobs list RUN")
    assert called.out.count("verify jobs failed: it broke [now]") >= 4
    assert not (study.folder / "report").exists()


def test_the_time_that_is_left_follows_from_the_iterations_since_the_start(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: now))
    view = command._Progress(load_study(study.folder / "tiny.toml"))
    names = [f"tiny-{strategy}-{seed}" for seed, strategy in RUNS]
    done = {name: RunState(name, 0, 0, 0, 0) for name in names}
    done["tiny-HS-STaR-100"] = RunState("tiny-HS-STaR-100", 2, 2, 0, 0)
    assert view.news(study.database, done) == ["2 of 12 iterations are done"]
    now += 60
    done["tiny-uniform-100"] = RunState("tiny-uniform-100", 1, 1, 0, 0)
    assert view.news(study.database, done) == ["tiny-uniform-100: iteration 0 done, 3 of 12"]
    now += 30
    done["tiny-uniform-100"] = RunState("tiny-uniform-100", 2, 2, 0, 0)
    news = "tiny-uniform-100: iteration 1 done, 4 of 12, about 6 min 00 s left"  # 45 s for each of eight
    assert view.news(study.database, done) == [news]
    assert view.news(study.database, done) == []


def test_an_interrupted_study_continues_and_repeats_nothing(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    looks = iter((study.worker().work, interrupt))
    let_time_pass(monkeypatch, lambda: next(looks)())
    called = study(*arguments(study, "--at-once", "1"))
    assert (called.code, called.err) == (
        130, "\nThe study is interrupted; it goes on when you call it again.\n"
    )  # fmt: skip
    assert [row["run"] for row in study.json("runs", "list")] == ["tiny-HS-STaR-100", "tiny-uniform-100"]
    drawn = "SELECT id, round_id, problem_id, slot FROM samples ORDER BY id"
    before = study.rows(drawn)
    assert before

    monkeypatch.setattr(command, "time", time)
    with working(study):
        study.ok(*arguments(study))
    assert study.rows(drawn)[: len(before)] == before
    # under one seed the strategies share slices, held-out problems and the pre-samples of iteration 0
    assert (
        study.rows("""
        WITH drawn AS (
            SELECT recipe->'seed' AS seed, kind, problem_id, slot, samples.seed AS sample_seed
            FROM samples JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
            WHERE slot < 3 AND number = 0
        )
        SELECT seed, kind, problem_id, slot FROM drawn GROUP BY seed, kind, problem_id, slot
        HAVING count(*) <> 2 OR count(DISTINCT sample_seed) <> 1
    """)
        == []
    )
