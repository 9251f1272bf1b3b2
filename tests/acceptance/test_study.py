"""A small study for real: interrupted, gone on with, repeated."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import SECONDS, Home

pytestmark = pytest.mark.heavy

STUDY = """
name = "tiny"
seeds = [100, 101]
iterations = 2
reference = "uniform"
problems = "demo"
[recipe]
extends = "builtin:demo"
problems = { dataset = "tiny-train", per_iteration = 16 }
evaluation = { dataset = "tiny-heldout", problems = 24 }
[strategies.HS-STaR]
[strategies.uniform]
sampling.strategy = "uniform"
difficulty.train = ["inlier", "boundary", "outlier"]
"""
NO_WORKERS = "sample=0,score=0,verify=0,train=0"


def study_home(home: Home) -> str:
    return str(Path(home.environment["HSSTAR_HOME"]) / "study" / "tiny")


def looked_at(home: Home, statement: str) -> list[dict[str, Any]]:
    """The rows of a query to the study's own database, which is up for that long."""
    outer = home.environment["HSSTAR_HOME"]
    home.environment["HSSTAR_HOME"] = study_home(home)
    try:
        home.ok("up", "--workers", NO_WORKERS)
        return home.query(statement)
    finally:
        home.ok("down")
        home.environment["HSSTAR_HOME"] = outer


def interrupt_in_the_middle(home: Home, file: Path) -> None:
    """Starts the study and sends Ctrl-C once an iteration is done and others are not."""
    started = home.start("study", str(file), "--output", str(home.folder / "report"), "--at-once", "1")
    assert started.stdout is not None
    lines = iter(started.stdout.readline, "")
    assert any("iteration 0 done" in line for line in lines), "the study ended before its interruption"
    started.send_signal(signal.SIGINT)
    _, complaint = started.communicate(timeout=SECONDS)
    assert started.returncode == 130, complaint
    assert "it goes on when you call it again" in complaint


def test_a_study_goes_on_where_it_was_and_repeats_nothing(home: Home) -> None:
    file = home.folder / "tiny.toml"
    file.write_text(STUDY)
    interrupt_in_the_middle(home, file)
    drawn = "select id, round_id, problem_id, slot from samples join iterations using (round_id) order by id"
    before = looked_at(home, drawn)
    assert 16 * 8 <= len(before) < 4 * 2 * 16 * 8

    said = home.ok("study", str(file), "--output", str(home.folder / "report"))
    assert "8 of 8" in said
    after = looked_at(home, drawn)
    assert after[: len(before)] == before
    assert len(after) == 4 * 2 * 16 * 8

    again = home.ok("study", str(file), "--output", str(home.folder / "report"))
    assert "8 of 8 iterations are done" in again
    assert looked_at(home, drawn) == after

    check_pairing(home)


def check_pairing(home: Home) -> None:
    """Under one seed the strategies share slices, held-out problems and the pre-samples of iteration 0."""
    differing = looked_at(
        home,
        """
        with drawn as (
            select recipe->'seed' as seed, kind, problem_id, slot, samples.seed as sample_seed, response
            from samples
            join sample_responses on sample_id = samples.id
            join rounds on rounds.id = round_id
            join runs on runs.id = run_id
            where slot < 3 and number = 0
        )
        select seed, kind, problem_id, slot, count(*) from drawn
        group by seed, kind, problem_id, slot
        having count(*) <> 2 or count(distinct (sample_seed, response)) <> 1
        """,
    )
    assert differing == []
