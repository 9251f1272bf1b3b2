"""`hsstar study` from its file to its report, with one worker without broker in place of the real ones."""

import csv
import re
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from hsstar.demo.family import ModularExpression
from hsstar.engines.sampling.contract import Completion
from hsstar.store.read.studies import RunState
from hsstar.study import conduct
from hsstar.study.document import load_study
from hsstar.study.tables import read_runs
from tests.cli.conftest import CommandLine, hold_up, interrupt, let_time_pass
from tests.deterministic import DeterministicSampler

HERE = Path(__file__).parent
STUDY = (HERE / "tiny.toml").read_text()
TWO_SEEDS = STUDY.replace("[100, 101, 102]", "[100, 101]")
RUNS = list(product((100, 101, 102), ("HS-STaR", "uniform")))
ITERATIONS = """
    SELECT iteration, problems, inlier, boundary, outlier, budget, drawn, pairs, tokens,
        heldout_accuracy_before AS accuracy_before, heldout_accuracy_after AS accuracy_after,
        heldout_error_before AS error_before, heldout_error_after AS error_after
    FROM iteration_statistics ORDER BY right(run, 3), run, iteration
"""


class DemoSampler(DeterministicSampler):
    """Reads the number of a problem from the demo's arithmetic."""

    def _complete(self, prompt: str, seed: int) -> Completion:
        operands = tuple(int(digit) for digit in re.findall(r"\d", prompt.partition(" mod ")[0]))
        expression = ModularExpression(operands, tuple(re.findall(r"[+*]", prompt)))
        return super()._complete(f"problem {expression.value}", seed)


@pytest.fixture
def study(cli: CommandLine) -> CommandLine:
    """A study file in the test's folder."""
    (cli.folder / "tiny.toml").write_text(STUDY)
    cli.sampler = DemoSampler
    return cli


def at_once(number: int) -> tuple[str, ...]:
    workers = "sample=0,score=0,verify=0,train=0"
    return "study", "tiny.toml", "--output", "report", "--workers", workers, f"--at-once={number}"


def read(file: Path) -> list[dict[str, str | float]]:
    """The rows of a table, with figures as numbers."""
    with file.open() as lines:
        return [
            {name: float(cell) if re.fullmatch(r"[-+.\de]+", cell) else cell for name, cell in row.items()}
            for row in csv.DictReader(lines)
        ]


def test_a_study_ends_with_a_report_that_says_what_its_rows_say(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_pass(monkeypatch, conduct.__name__, study.worker().work)
    said = study.ok(*at_once(6))
    assert "12 of 12" in said and said.count("iteration 1 done") == 6
    assert "Report over 3 of 3 seeds: " in said.splitlines()[-1]
    with study.database.begin() as connection:
        connection.execute(text("UPDATE evaluations SET accuracy = round_id * 37 % 100 / 100.0"))
    assert "12 of 12 iterations are done" in study.ok(*at_once(1))  # only the report is written again
    folder = study.folder / "report"
    stored = study.json("sql", ITERATIONS)
    runs = read(folder / "tiny-runs.csv")
    assert [(row["seed"], row["strategy"]) for row in runs[::2]] == RUNS
    assert [{name: row[name] for name in stored[0]} for row in runs] == stored
    for row, expected in zip(read(folder / "tiny.csv"), read(HERE / "tiny.csv"), strict=True):
        assert row == pytest.approx(expected, abs=1e-9)
    assert (folder / "tiny.md").read_text() == (HERE / "tiny.md").read_text()
    assert (folder / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "tiny.svg").read_text()
    (study.folder / "tiny.toml").write_text(STUDY.replace("per_iteration = 12", "per_iteration = 13"))
    assert study.refused(*at_once(1)).startswith("run 'tiny-HS-STaR-100' is there with another recipe")


@pytest.mark.slow
def test_a_study_shared_between_machines_gives_the_same_report(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_time_pass(monkeypatch, conduct.__name__, *[study.worker().work] * 2)
    part = [*at_once(6), "--output"]
    assert "4 of 4" in study.ok(*part, "first", "--seed", "101")
    assert "8 of 8" in study.ok(*part, "second", "--seed", "102", "--seed", "100")
    assert "Report over 3 of 3 seeds" in study.ok(*at_once(1))
    files = [study.folder / name / "tiny-runs.csv" for name in ("first", "second")]
    shared = [word for file in files for word in ("--with", str(file))]
    assert study.ok(*part, "joined", *shared).startswith("Report over 3 of 3 seeds")  # nothing is started
    study.ok(*part, "mixed", *shared[:2])  # the other seeds are in the database
    for file in ("tiny.md", "tiny.csv", "tiny-runs.csv"):
        texts = {(study.folder / name / file).read_text() for name in ("report", "joined", "mixed")}
        assert len(texts) == 1


@pytest.mark.slow
def test_tables_of_another_study_are_refused(study: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    let_time_pass(monkeypatch, conduct.__name__, study.worker().work)
    study.ok(*at_once(6), "--seed", "101")
    table = study.folder / "report" / "tiny-runs.csv"
    header, *rows = table.read_text().splitlines()

    def refusal(*lines: str) -> str:
        table.write_text("\n".join(lines) + "\n")
        return study.refused(*at_once(1), "--with", str(table)).removeprefix(f"{table}: ")

    assert refusal("strategy,seed", "uniform,0") == f"{table} is no table of a study's runs (NAME-runs.csv)"
    assert refusal(header, rows[0]) == "run 'tiny-HS-STaR-101' has not the 2 iterations"
    assert refusal(header, *rows[:2]).startswith("the files lack run 'tiny-uniform-101'")
    changed = [row.replace("-101,", "-7,") for row in rows]
    assert refusal(header, *changed) == "the study has no run 'tiny-HS-STaR-7'"
    words = [row.replace(",0,12,", ",0,a dozen,") for row in rows]
    assert refusal(header, *words) == "a row of run 'tiny-HS-STaR-101' has no usable problems"
    table.write_text("\n".join([header, *rows]) + "\n")
    twice = ("--with", str(table), "--with", str(table))
    assert study.refused(*at_once(1), *twice) == f"{table}: another file has run 'tiny-HS-STaR-101' too"
    (study.folder / "tiny.toml").write_text(STUDY.replace("per_iteration = 12", "per_iteration = 13"))
    assert refusal(header, *rows) == "run 'tiny-HS-STaR-101' had another recipe"
    assert study.refused(*at_once(1), "--seed", "9") == "seed 9 is none of the study's: 100, 101, 102"


def test_the_published_rows_of_the_shipped_study_are_read() -> None:
    root = HERE.parents[1]
    study = load_study(root / "configs" / "study.toml")
    read = read_runs([root / "bench" / "results" / "2026-11-29-study-runs.csv"], study)
    assert {run.run.seed for run in read} == set(range(10))


def test_a_study_that_failed_jobs_hold_up_ends_with_1_and_names_the_runs(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.folder / "tiny.toml").write_text(TWO_SEEDS)
    let_time_pass(monkeypatch, conduct.__name__, *[lambda: hold_up(study)] * 4)
    called = study(*at_once(1))
    assert called.code == 1
    runs = ", ".join(f"tiny-{strategy}-{seed}" for seed, strategy in RUNS[:4])
    assert called.err.startswith(f"hsstar: failed jobs hold up {runs}; see hsstar jobs list RUN")
    assert called.out.count("verify jobs failed: it broke [now]") >= 4
    assert not (study.folder / "report").exists()


def test_a_job_without_progress_is_told_once(study: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_still(seconds: int) -> None:
        with study.database.begin() as connection:
            connection.execute(
                text(
                    "UPDATE jobs SET state = 'running', lease_token = gen_random_uuid(), finished_at = NULL,"
                    " lease_expires_at = now() + interval '1 h', moved_at = now() - make_interval(secs => :s)"
                    " WHERE state IN ('failed', 'running')"
                ),
                {"s": seconds},
            )

    looks = [partial(stand_still, seconds) for seconds in (402, 404, 406)]
    let_time_pass(monkeypatch, conduct.__name__, lambda: hold_up(study), *looks, interrupt)
    called = study(*at_once(1))
    assert called.code == 130
    told = [line for line in called.out.splitlines() if "no progress for" in line]
    assert [line.partition(";")[0] for line in told] == [
        "tiny-HS-STaR-100: no progress for 402 s in a running verify job"
    ]


def test_the_time_that_is_left_follows_from_the_iterations_since_the_start(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(conduct, "time", SimpleNamespace(monotonic=lambda: now))
    news_of = conduct._News(load_study(study.folder / "tiny.toml"))
    states = {f"tiny-{strategy}-{seed}": RunState("", 0, 0, 0, 0) for seed, strategy in RUNS}
    first, second, *_ = states

    def news(run: str, done: int) -> list[str]:
        states[run] = RunState(run, done, done, 0, 0)
        return news_of.lines(study.database, states)

    assert news(first, 2) == ["2 of 12 iterations are done"]
    now += 60
    assert news(second, 1) == [f"{second}: iteration 0 done, 3 of 12"]
    now += 30
    left = "about 6 min 00 s left"  # 45 s for each of eight
    assert news(second, 2) == [f"{second}: iteration 1 done, 4 of 12, {left}"]
    assert news(second, 2) == []


@pytest.mark.slow
def test_an_interrupted_study_continues_and_repeats_nothing(
    study: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study.folder / "tiny.toml").write_text(TWO_SEEDS.replace("iterations = 2", "iterations = 1"))
    let_time_pass(monkeypatch, conduct.__name__, study.worker().work, interrupt)
    called = study(*at_once(1))
    message = "\nThe study is interrupted; it goes on when you call it again.\n"
    assert (called.code, called.err) == (130, message)
    assert [row["run"] for row in study.json("runs", "list")] == ["tiny-HS-STaR-100", "tiny-uniform-100"]
    drawn = "SELECT id, round_id, problem_id, slot FROM samples ORDER BY id"
    before = study.rows(drawn)
    assert before
    let_time_pass(monkeypatch, conduct.__name__, study.worker().work)
    study.ok(*at_once(4))
    assert study.rows(drawn)[: len(before)] == before
    # under one seed the strategies share slices, held-out problems and the pre-samples of iteration 0
    differing = study.rows("""
        WITH drawn AS (
            SELECT recipe->'seed' AS seed, kind, problem_id, slot, samples.seed AS sample_seed
            FROM samples JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
            WHERE slot < 3 AND number = 0
        )
        SELECT seed, kind, problem_id, slot FROM drawn GROUP BY seed, kind, problem_id, slot
        HAVING count(*) <> 2 OR count(DISTINCT sample_seed) <> 1
    """)
    assert differing == []
