"""`hsstar plan`: figures from the options or from earlier runs, and checks of what is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.domain.findings import Level
from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.plan.preflight import check_prompt
from tests.cli.conftest import CommandLine
from tests.store import factory

HERE = Path(__file__).parent
FIGURES = (
    "--tokens-per-sample=600", "--pairs-per-sample=0.1", "--sampling-tokens-per-second=1000",
    "--scoring-tokens-per-second=2000", "--training-tokens-per-second=500"
)  # fmt: skip
GPU = "--gpu-memory=80"


def plan(cli: CommandLine, *arguments: str) -> tuple[int, Any]:
    """The exit code and the JSON document."""
    called = cli("plan", *arguments, "--json")
    assert called.err == ""
    return called.code, json.loads(called.out)


def test_every_figure_that_is_given_decides_the_forecast(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan.json` holds it for 5 iterations of 4 problems with 8 samples each, and 3 held-out problems."""
    monkeypatch.delenv("HSSTAR_DATABASE_URL")
    arguments = (cli.recipe(), "--iterations", "5", GPU, *FIGURES)
    code, found = plan(cli, *arguments)
    levels = {finding["name"]: finding["level"] for finding in found.pop("findings")}
    assert (code, found | {"check": levels}) == (0, json.loads((HERE / "plan.json").read_text()))
    rows = {(row["part"], row["name"]): row["value"] for row in cli.csv("plan", *arguments)}
    parts = [(part, found[part]) for part in ("samples", "tokens", "hours")]
    parts += [("disk", {name: found[name] for name in found if name.endswith("_bytes")}), ("check", levels)]
    parts += [("figure", {name: figure["value"] for name, figure in found["figures"].items()})]
    expected = {(part, name): str(value) for part, values in parts for name, value in values.items()}
    assert rows == expected
    without_gpu = cli.json("plan", cli.recipe(), *FIGURES)  # three iterations
    assert without_gpu["checkpoint_bytes"] == found["checkpoint_bytes"] / 5 * 3
    together = f"^together +{sum(without_gpu['hours'].values()):.3g} *$"
    assert re.search(together, cli.ok("plan", cli.recipe(), *FIGURES), re.MULTILINE)


def test_the_papers_run_is_too_large_for_one_gpu_and_fits_on_four(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HSSTAR_DATABASE_URL")
    monkeypatch.setenv("HF_HUB_CACHE", str(cli.folder))
    command = ("plan", str(HERE.parents[1] / "configs" / "hsstar.toml"), GPU, "--tokens-per-sample", "600")
    called = cli(*command)
    assert called.code == 1
    figures, _, checks = "\n".join(line.rstrip() for line in called.out.splitlines()).partition("\ncheck\n")
    assert figures == (HERE / "plan.txt").read_text()
    levels = re.findall(r"^(memory, training|data)  +(FAIL|not checked +no database:) ", checks, re.MULTILINE)
    assert levels == [("data", "not checked  no database:"), ("memory, training", "FAIL")]
    said = cli(*command, "--training-gpus", "4", "--sampling-tokens-per-second", "1000").out
    assert re.search(r"^together +at least 35.2 *$", said, re.MULTILINE)  # 108 + 18.8 million tokens
    assert re.search(r"^memory, training +ok ", said, re.MULTILINE)


def test_earlier_runs_and_data_are_asked_where_a_database_is_up(cli: CommandLine) -> None:
    with cli.database.begin() as connection:
        factory.add_problems(connection, 20, "demo-train")
        factory.add_problems(connection, 2, "demo-heldout")
        models = {"policy": {"model": "builtin:demo-policy"}, "reward": {"model": "builtin:demo-prm"}}
        run = factory.add_run(connection, factory.make_recipe(**models))
        problem = factory.add_problems(connection, 1)[0]
        iteration = factory.add_iteration(connection, run, [problem])
        factory.add_samples(connection, iteration.id, {problem: {slot: factory.Drawn() for slot in range(6)}})
        for kind, seconds in ((JobKind.SAMPLE, 4), (JobKind.SCORE, 3)):
            job = factory.add_job(connection, iteration.id, kind, state=JobState.DONE)
            duration = f"started_at = finished_at - interval '{seconds} s', worker = 'w'"
            factory.change_jobs(connection, duration, job)
        connection.execute(text("UPDATE iterations SET state = 'done', finished_at = now()"))
    code, found = plan(cli, cli.recipe(), "--iterations", "5", GPU)
    assert code == 1
    measured = "measured in earlier runs of builtin:demo-policy"
    assert {name: (figure["value"], figure["source"]) for name, figure in found["figures"].items()} == {
        "tokens per sample": (10, measured),
        "pairs per sample": (0.15, "assumed; give --pairs-per-sample"),
        "sampling speed": (15, measured),
        "scoring speed": (20, f"{measured} with builtin:demo-prm"),
        "training speed": (None, "not known; give --training-tokens-per-second"),
    }
    findings = {finding["name"]: (finding["level"], finding["text"]) for finding in found["findings"]}
    assert findings["training problems"] == ("ok", "demo-train holds 20 usable problems, 20 are needed")
    assert findings["held-out problems"] == ("FAIL", "demo-heldout holds 2 usable problems, 3 are needed")
    _, found = plan(cli, cli.recipe(), "--iterations", "6", GPU, "--tokens-per-sample", "11")
    assert found["figures"]["tokens per sample"] == {"value": 11, "source": "given"}
    (training,) = [finding for finding in found["findings"] if finding["name"] == "training problems"]
    assert training["text"] == "demo-train holds 20 usable problems, 24 are needed"


@pytest.mark.parametrize(
    ("prompt", "level", "said"),
    [
        ("bare", None, ""),
        ("{{ problem }}=", Level.OK, "it renders a problem"),
        ("{{ problem ", Level.FAIL, "policy.prompt.template: no template: "),
        ("{{ problm }}", Level.FAIL, "policy.prompt.template: it uses 'problm'; "),
        ("{{ problem }}{{ 'x' * 10000000 }}", Level.FAIL, "cannot render a problem: * makes too much"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{{ problem }}",
            Level.FAIL,
            "cannot render a problem: it took more than 0.5 s",
        ),
        (
            {"template": "{{ problem }}{{ examples }}", "examples": {"dataset": "solved"}},
            Level.UNCHECKED,
            "its examples are drawn when a run is created",
        ),
    ],
)
def test_a_template_of_the_recipe_is_rendered(
    prompt: Any, level: Level | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2")
    from hsstar.engines import own_template

    monkeypatch.setattr(own_template, "RENDER_SECONDS", 0.5)
    findings = check_prompt(factory.make_recipe(policy={"model": "builtin:demo-policy", "prompt": prompt}))
    assert [finding.level for finding in findings] == ([] if level is None else [level])
    assert all(finding.name == "prompt template" and said in finding.text for finding in findings)
