"""Training as a user meets it: killed and gone on, from files, and where a policy comes from."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import fingerprint
from hsstar.demo.family import distinct_problems, draw_strategy, solution_steps, solution_text
from tests.acceptance.conftest import SECONDS, Home, temporary_home
from tests.acceptance.invariants import check_finished_run
from tests.waiting import wait_for

_MANY_STEPS: dict[str, Any] = {"batch_size": "2\nepochs = 4\nsave_every_steps = 3"}


def _kill_after_a_checkpoint(home: Home) -> None:
    """Waits until a training has left an intermediate checkpoint and kills its worker with -9."""
    (running,) = home.wait_for("""
        select workers.process from training_runs
        join jobs on jobs.id = training_runs.job_id
        join workers on workers.name = jobs.worker
        where jobs.state = 'running' and log like '%intermediate checkpoint%'
          and training_runs.finished_at is null
    """)
    os.kill(running["process"], signal.SIGKILL)


@pytest.mark.heavy
def test_a_killed_training_ends_as_an_undisturbed_one(stack: Home) -> None:
    """Both runs draw the same samples: only the name differs, and nothing is derived from it."""
    for name in ("undisturbed", "resumed"):
        recipe = stack.write_recipe(name, **_MANY_STEPS)
        stack.ok("runs", "create", "--recipe", str(recipe))
    stack.ok("iterate", "undisturbed")
    stack.wait_until_done("undisturbed")
    stack.ok("iterate", "resumed")
    _kill_after_a_checkpoint(stack)
    stack.wait_until_done("resumed")

    check_finished_run(stack, "resumed", json.loads(stack.ok("runs", "show", "resumed")))
    whole, resumed = (
        Path(stack.environment["HSSTAR_HOME"]) / "models" / run / "M1" for run in ("undisturbed", "resumed")
    )
    assert fingerprint(whole) == fingerprint(resumed)
    (found,) = stack.query(
        "select resumed_at, steps, log from training_runs join rounds on rounds.id = round_id "
        "join runs on runs.id = run_id where runs.name = 'resumed'"
    )
    assert 0 < found["resumed_at"] < found["steps"]
    curves = stack.query(
        "select step, count(*) as runs, max(loss) - min(loss) as apart from training_curves "
        "where run in ('undisturbed', 'resumed') group by step order by step"
    )
    assert [row["step"] for row in curves] == list(range(1, found["steps"] + 1))
    assert all(row["runs"] == 2 and row["apart"] == 0 for row in curves)
    assert not list(resumed.parent.glob(".*"))

    _shows_where_it_comes_from(stack, resumed)


def _shows_where_it_comes_from(home: Home, made: Path) -> None:
    lines = [line.split() for line in home.ok("models", "lineage", "resumed-M1").splitlines()]
    assert lines[1][0] == "builtin:demo-policy"
    assert lines[2][:5] == ["→", "resumed-M1", "resumed", "0", "dpo"]
    assert "demo-heldout" in " ".join(lines[2])
    assert len(lines) == 3

    home.ok("models", "export", "resumed-M1", str(home.folder / "taken"))
    taken = home.folder / "taken"
    assert fingerprint(taken) == fingerprint(made)
    text = (taken / "README.md").read_text()
    assert "| resumed-M1 | builtin:demo-policy | by DPO on " in text
    assert '"per_iteration": 24' in text
    assert "± " in text
    assert len(home.ok("models", "lineage").splitlines()) > 3


def test_published_pairs_leave_and_come_back(finished: Home) -> None:
    pairs, output = finished.folder / "pairs.jsonl", finished.folder / "from-pairs"
    finished.ok("export", "pairs", "loop", "--output", str(pairs))
    said = finished.ok(
        "train", "dpo", "--data", str(pairs), "--model", "builtin:demo-policy", "--output", str(output),
        "--recipe", str(finished.folder / "loop.toml"), "--set", "batch_size=8",
    )  # fmt: skip
    assert f"{len(pairs.read_text().splitlines())} rows" in said
    assert fingerprint(output) != fingerprint("builtin:demo-policy")


@pytest.fixture
def solutions(tmp_path: Path) -> Path:
    """Solutions of the demo's problems as a MATH file has them."""
    generator = random.Random(0)
    file = tmp_path / "solutions.jsonl"
    rows = []
    for problem in distinct_problems(64, 3, held_out=False):
        strategy = draw_strategy(problem.level, generator)
        text = solution_text(solution_steps(problem, strategy, generator))
        rows.append({"problem": problem.question, "solution": text, "answer": str(problem.answer)})
    rows.append({"problem": "1=?", "solution": "\\boxed{1}", "answer": "1"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.heavy
def test_an_interrupted_initialisation_goes_on(solutions: Path) -> None:
    """In the foreground, without a stack: Ctrl-C leaves no output, and the same command ends the work."""
    with temporary_home() as home:
        steps = home.folder / "steps.jsonl"
        told = home.run("data", "steps", str(solutions), "--output", str(steps))
        assert told.returncode == 0
        assert "64 solutions in steps, 1 left out" in told.stderr
        assert "one step only: 1 (65)" in told.stderr
        output = home.folder / "M0"
        command = (
            "train", "init", "--data", str(steps), "--model", "builtin:demo-policy", "--prompt", "bare",
            "--output", str(output), "--set", "batch_size=4", "--set", "learning_rate=1e-4",
            "--set", "save_every_steps=2",
        )  # fmt: skip
        training = home.start(*command)
        workspace = home.folder / ".M0-training"
        wait_for(lambda: list(workspace.glob("*/step-*")) or training.poll(), SECONDS)
        training.send_signal(signal.SIGSTOP)  # it would be done before the others have started
        assert "another process is training" in home.refused(*command)
        training.send_signal(signal.SIGINT)
        training.send_signal(signal.SIGCONT)
        _, errors = training.communicate(timeout=SECONDS)
        assert training.returncode == 130
        assert "the same command continues" in errors
        assert "Traceback" not in errors
        assert not output.exists()

        assert "with other data or settings" in home.refused(*command, "--set", "learning_rate=1e-3")
        done = home.run(*command)
        assert done.returncode == 0, done.stderr
        assert "continuing from step" in done.stderr
        assert "16 steps" in done.stdout
        assert not workspace.exists()
        assert "supervised fine-tuning on 64 rows" in (output / "README.md").read_text()
        undisturbed = home.folder / "again"
        home.ok(*(str(undisturbed) if part == str(output) else part for part in command))
        assert fingerprint(undisturbed) == fingerprint(output)
        assert "is not empty" in home.refused(*command)
