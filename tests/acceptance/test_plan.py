"""`hsstar plan` as a user calls it: without a database, and beside one that has measured something."""

import json
from pathlib import Path

from tests.acceptance.conftest import Home

CONFIGS = Path(__file__).parents[2] / "configs"


def plan(home: Home, *arguments: str) -> tuple[int, str]:
    done = home.run("plan", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_the_papers_run_does_not_fit_on_one_gpu_and_data_are_not_checked(home: Home) -> None:
    code, said = plan(home, str(CONFIGS / "hsstar.toml"), "--gpu-memory", "80", "--tokens-per-sample", "600")
    assert code == 1
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    assert "22,500" in lines["pre-samples"]
    assert "112,500" in lines["re-samples, at most"]
    assert "108 million" in lines["sampling"]
    assert "FAIL" in lines["memory, training"]
    assert "not checked" in lines["data"]
    assert "no database" in lines["data"]


def test_given_speeds_become_hours(home: Home) -> None:
    given = ["--tokens-per-sample", "600", "--sampling-tokens-per-second", "1000"]
    code, said = plan(home, str(CONFIGS / "demo.toml"), *given)
    assert code == 0, said
    lines = {line.split("  ")[0]: line.split() for line in said.splitlines()}
    assert lines["sampling"][-1] == "1"  # 3 × 250 × 8 samples × 600 tokens / 1,000 / 3,600
    assert "at least" in said


def test_programs_read_a_plan_as_json_or_csv(home: Home) -> None:
    code, said = plan(home, str(CONFIGS / "first.toml"), "--gpu-memory", "80", "--json")
    document = json.loads(said)
    assert code == 0
    assert document["samples"]["pre_samples"] == 300
    assert document["findings"][0] == {
        "level": "ok", "name": "policy", "text": "builtin:demo-policy: 0.8 million parameters"
    }  # fmt: skip
    _, said = plan(home, str(CONFIGS / "first.toml"), "--format", "csv")
    assert said.splitlines()[:2] == ["part,name,value,detail", "samples,iterations,3,"]


def test_a_recipe_that_is_no_recipe_is_refused(home: Home) -> None:
    assert "no such file" in home.refused("plan", str(home.folder / "none.toml"))


def test_data_and_earlier_runs_are_asked_where_a_database_is_up(stack: Home) -> None:
    recipe = stack.write_recipe("planned")
    stack.ok("runs", "create", "--recipe", str(recipe))
    stack.ok("iterate", "planned", "--watch")
    code, said = plan(stack, str(recipe), "--iterations", "3")
    assert code == 0, said
    assert "measured in earlier runs of builtin:demo-policy" in said
    assert "demo-train holds 400 usable problems, 72 are needed" in said
    assert "not known" not in said
    code, said = plan(stack, str(recipe), "--iterations", "20")
    assert code == 1
    assert "demo-train holds 400 usable problems, 480 are needed" in said
