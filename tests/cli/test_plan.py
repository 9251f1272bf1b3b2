"""`hsstar plan`: figures from the options or from earlier runs, and checks of what is there."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind, JobState
from tests.cli.conftest import CommandLine
from tests.store.factory import Drawn, add_iteration, add_job, add_problems, add_run, add_samples, make_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
FIGURES = (
    "--tokens-per-sample", "600", "--pairs-per-sample", "0.1", "--sampling-tokens-per-second", "1000",
    "--scoring-tokens-per-second", "2000", "--training-tokens-per-second", "500",
)  # fmt: skip


def plan(cli: CommandLine, *arguments: str) -> tuple[int, Any]:
    called = cli("plan", *arguments, "--json")
    assert called.err == ""
    return called.code, json.loads(called.out)


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HSSTAR_DATABASE_URL")


def test_every_figure_that_is_given_decides_the_forecast(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere(monkeypatch)
    recipe = cli.recipe()
    code, found = plan(cli, recipe, "--iterations", "5", "--gpu-memory", "80", *FIGURES)
    assert code == 0
    drawn = 5 * 4 * 8  # iterations, problems, samples
    assert found["samples"] == {
        "iterations": 5, "policies": 6, "pre_samples": 12, "re_samples": 20, "evaluation_samples": 3,
    }  # fmt: skip
    assert found["tokens"] == {
        "sampled": drawn * 600, "evaluated": 6 * 3 * 600, "scored": drawn * 600,
        "trained": pytest.approx(drawn * 0.1 * 2 * 600),
    }  # fmt: skip
    assert found["hours"] == {
        "sampling": pytest.approx(drawn * 600 / 1000 / 3600),
        "evaluation": pytest.approx(6 * 3 * 600 / 1000 / 3600),
        "scoring": pytest.approx(drawn * 600 / 2000 / 3600),
        "training": pytest.approx(drawn * 0.1 * 2 * 600 / 500 / 3600),
    }
    assert {name: (figure["value"], figure["source"]) for name, figure in found["figures"].items()} == {
        "tokens per sample": (600, "given"), "pairs per sample": (0.1, "given"),
        "sampling speed": (1000, "given"), "scoring speed": (2000, "given"), "training speed": (500, "given"),
    }  # fmt: skip
    levels = {finding["name"]: finding["level"] for finding in found["findings"]}
    assert levels == {
        "policy": "ok", "reward model": "ok", "data": "not checked", "memory, sampling": "ok",
        "memory, scoring": "ok", "memory, training": "ok", "disk, checkpoints": "ok",
    }  # fmt: skip
    said = cli.ok("plan", recipe, "--format", "csv", *FIGURES)
    rows = {(part, name): value for part, name, value, _ in csv.reader(io.StringIO(said))}
    assert rows["samples", "iterations"] == "3"
    assert float(rows["tokens", "sampled"]) == 3 * 4 * 8 * 600
    assert float(rows["hours", "sampling"]) == pytest.approx(3 * 4 * 8 * 600 / 1000 / 3600)
    parameters = found["checkpoint_bytes"] / 5 / 2  # in bfloat16, and without a GPU in float32
    assert float(rows["disk", "checkpoint_bytes"]) == 3 * 4 * parameters > 0
    lines = {line.split("  ")[0]: line.split() for line in cli.ok("plan", recipe, *FIGURES).splitlines()}
    together = sum(float(value) for (part, _), value in rows.items() if part == "hours")
    assert lines["together"] == ["together", f"{together:.3g}"]
    assert rows["check", "policy"] == "ok"


def test_the_papers_run_is_too_large_for_one_gpu_and_fits_on_four(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere(monkeypatch)
    monkeypatch.setenv("HF_HUB_CACHE", str(cli.folder))
    command = ("plan", str(CONFIGS / "hsstar.toml"), "--gpu-memory", "80", "--tokens-per-sample", "600")
    called = cli(*command)
    assert called.code == 1
    lines = {line.split("  ")[0]: line.split("  ", 1)[-1].split() for line in called.out.splitlines()}
    assert called.out.startswith("hs-star-qwen2.5-7b, 3 iterations\n")
    assert lines["pre-samples"] == ["22,500", "67,500"]
    assert lines["re-samples, at most"] == ["37,500", "112,500"]

    assert lines["held-out samples"] == ["7,824", "×", "4", "policies", "31,296"]
    assert called.out.count("\n\n") == 4
    assert lines["sampling"] == ["108", "million", "not", "known"]
    assert lines["together"] == ["not", "known"]
    assert lines["memory, training"][0] == "FAIL"
    assert lines["data"][:4] == ["not", "checked", "no", "database:"]
    said = cli(*command, "--training-gpus", "4", "--sampling-tokens-per-second", "1000").out
    lines = {line.split("  ")[0]: line.split("  ", 1)[-1].split() for line in said.splitlines()}
    assert lines["together"] == ["at", "least", "35.2"]  # 108 + 18.7 million tokens at 1,000 a second
    assert lines["memory, training"][0] == "ok"


def test_earlier_runs_and_data_are_asked_where_a_database_is_up(cli: CommandLine) -> None:
    with cli.database.begin() as connection:
        add_problems(connection, 20, "demo-train")
        add_problems(connection, 2, "demo-heldout")
        demo = make_recipe(
            policy={"model": "builtin:demo-policy"}, reward={"model": "builtin:demo-prm"},
            problems={"dataset": "demo-train", "per_iteration": 2},
        )  # fmt: skip
        run = add_run(connection, demo)
        problem = add_problems(connection, 1)[0]
        iteration = add_iteration(connection, run, [problem])
        add_samples(connection, iteration.id, {problem: {slot: Drawn() for slot in range(6)}})
        for kind, seconds in ((JobKind.SAMPLE, 4), (JobKind.SCORE, 3)):
            add_job(connection, iteration.id, kind, state=JobState.DONE)
            connection.execute(
                text("""
                    UPDATE jobs SET worker = 'w', started_at = finished_at - make_interval(secs => :seconds)
                    WHERE started_at IS NULL
                """),
                {"seconds": seconds},
            )
        connection.execute(text("UPDATE iterations SET state = 'done', finished_at = now()"))
    code, found = plan(cli, cli.recipe(), "--iterations", "5", "--gpu-memory", "80")
    assert code == 1
    figures = {name: (figure["value"], figure["source"]) for name, figure in found["figures"].items()}
    measured = "measured in earlier runs of builtin:demo-policy"
    assert figures == {
        "tokens per sample": (10, measured),
        "pairs per sample": (0.15, "assumed; give --pairs-per-sample"),
        "sampling speed": (15, measured),
        "scoring speed": (20, f"{measured} with builtin:demo-prm"),
        "training speed": (None, "not known; give --training-tokens-per-second"),
    }
    findings = {finding["name"]: (finding["level"], finding["text"]) for finding in found["findings"]}
    assert findings["training problems"] == ("ok", "demo-train holds 20 usable problems, 20 are needed")
    assert findings["held-out problems"] == ("FAIL", "demo-heldout holds 2 usable problems, 3 are needed")
    _, found = plan(cli, cli.recipe(), "--iterations", "6", "--gpu-memory", "80", "--tokens-per-sample", "11")
    assert found["figures"]["tokens per sample"] == {"value": 11, "source": "given"}
    findings = {finding["name"]: (finding["level"], finding["text"]) for finding in found["findings"]}
    assert findings["training problems"] == ("FAIL", "demo-train holds 20 usable problems, 24 are needed")
