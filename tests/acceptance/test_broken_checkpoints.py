"""What people bring broken is refused when a run is created, or the run says what is wrong with it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsstar.demo import RECIPE
from tests.acceptance.broken_checkpoints import make_broken_checkpoints, mend_index
from tests.acceptance.conftest import Home, temporary_home

pytestmark = pytest.mark.heavy

HELD = 3
"""The exit code of a command whose run is held."""
UNTRAINED = {"[training]": '[training]\nobjective = "none"'}
BARE, CHAT = 'prompt = "bare"', 'prompt = "chat"'


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with temporary_home() as home:
        home.environment |= {"HSSTAR_JOB_SAMPLES": "8", "HSSTAR_MAX_ATTEMPTS": "2"}
        home.ok("up")
        home.import_demo_problems(40, held_out=1)
        make_broken_checkpoints(home.folder / "broken")
        yield home


def write_recipe(home: Home, name: str, policy: str = "", reward: str = "", **changes: str) -> str:
    """The demo's recipe for 8 problems, without evaluation, with a broken checkpoint and other lines."""
    text = RECIPE.read_text().partition("[evaluation]")[0]
    replaced = {'name = "demo"': f'name = "{name}"', "per_iteration = 250": "per_iteration = 8"}
    for model, broken in (("builtin:demo-policy", policy), ("builtin:demo-prm", reward)):
        if broken:
            replaced[f'model = "{model}"'] = f"model = {json.dumps(str(home.folder / 'broken' / broken))}"
    for old, new in (replaced | changes).items():
        assert old in text
        text = text.replace(old, new, 1)
    path = home.folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


REFUSED = {
    "missing_layer": r"\d+ tensors are missing, such as model\.layers\.2\.",
    "index_half": r"index\.json is incomplete: it does not name model-00002-of-00002",
    "shards_without_index": r"without their index, model\.safetensors\.index\.json",
    "adapter": r"this is an adapter alone; merge it into its base model base",
    "template_loops": r"its chat template cannot render a question: it took more than 5 s",
    "template_loops_on_star": r"its chat template cannot render a question: it took more than 5 s",
}


@pytest.mark.parametrize(("policy", "message"), REFUSED.items(), ids=REFUSED)
def test_a_broken_policy_is_refused_when_the_run_is_created(home: Home, policy: str, message: str) -> None:
    changes = {BARE: CHAT} if policy.startswith("template") else {}
    recipe = write_recipe(home, policy, policy, **changes)
    refused = home.run("runs", "create", "--recipe", recipe)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert re.search(message, line), line
    assert home.query(f"select from runs where name = '{policy}'") == []


def test_a_mended_index_is_enough(home: Home) -> None:
    recipe = write_recipe(home, "mended", "index_half", **UNTRAINED)
    mend_index(home.folder / "broken" / "index_half")
    home.ok("runs", "create", "--recipe", recipe)
    home.ok("iterate", "mended", "--watch")


FAILING = {
    "nan_policy": (True, "sample jobs failed: .*log-probability nan; are its weights whole"),
    "nan_prm": (
        False,
        r"score jobs failed: .*the reward model gave nan for step 1 of sample \d+ \(reward\); are its",
    ),
    "nan_prm_for_sevens": (
        False,
        r"score jobs failed: .*the reward model gave nan for step \d+ of sample \d+ \(reward\);",
    ),
}


@pytest.mark.parametrize(("name", "is_policy", "message"), [(name, *case) for name, case in FAILING.items()])
def test_what_is_no_number_fails_its_jobs_and_the_run_is_not_done(
    home: Home, name: str, is_policy: bool, message: str
) -> None:
    recipe = write_recipe(home, name, *((name,) if is_policy else ("", name)))
    home.ok("runs", "create", "--recipe", recipe)
    watched = home.run("iterate", name, "--watch")
    assert watched.returncode == 1
    assert "is incomplete and cannot continue" in watched.stderr
    assert re.search(message, home.ok("status", name)), watched.stdout
    drawn = home.query(f"select drawn, state from iteration_statistics where run = '{name}'")[0]
    assert drawn == {"drawn": 0 if is_policy else 24, "state": "pre_sampling"}


def test_a_context_that_is_too_short_is_foreseen_and_counted(home: Home) -> None:
    recipe = write_recipe(home, "short", "context_64", **UNTRAINED)
    warning = r"exceed the context of 64: responses are cut after \d+ tokens"
    planned = json.loads(home.run("plan", recipe, "--json").stdout)
    assert any(
        re.search(warning, finding["text"]) and finding["level"] == "warn" for finding in planned["findings"]
    )
    assert re.search(warning, home.run("runs", "create", "--recipe", recipe).stderr)
    home.ok("iterate", "short", "--watch")
    (row,) = home.query(
        "select drawn, cut, cut_by_context, cut_share from iteration_statistics where run = 'short'"
    )
    assert row["cut"] == row["cut_by_context"] > 0.2 * row["drawn"]
    words = f"{row['cut']} of {row['drawn']} cut by the context of 64"
    for shown in (home.ok("status", "short"), home.ok("report", "short", "--iterations")):
        assert words in shown
    file = home.folder / "iterations.jsonl"
    home.ok("export", "iterations", "short", "--output", str(file))
    exported = json.loads(file.read_text())
    assert (exported["cut_share"], words in exported["faults"]) == (row["cut_share"], True)


def import_wrong_references(home: Home, dataset: str) -> None:
    file = Path(home.folder / f"{dataset}.jsonl")
    rows = [{"problem": f"What is {number} + {number}?", "answer": "987654"} for number in range(3, 35)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    home.ok("problems", "import", str(file), "--dataset", dataset)


def test_a_run_that_learns_nothing_stops_and_says_so(home: Home) -> None:
    import_wrong_references(home, "wrong")
    recipe = write_recipe(home, "nothing", **{'"demo-train"': '"wrong"'})
    home.ok("runs", "create", "--recipe", recipe)
    watched = home.run("iterate", "nothing", "--iterations", "3", "--watch")
    assert watched.returncode == HELD
    assert (
        "nothing is held (trained-nothing): iteration 0: no pair, nothing was trained: M1 is M0"
        in watched.stderr
    )
    for words in (r"0 of \d+ correct: references or prompt\?", "no pair, nothing was trained: M1 is M0"):
        assert re.search(f"iteration 0: {words}", watched.stdout), watched.stdout
    states = home.query("select state from iteration_statistics where run = 'nothing' order by iteration")
    assert [row["state"] for row in states] == ["done", "waiting", "waiting"]
    assert home.run("iterate", "nothing").returncode == HELD
    assert home.run("status", "nothing", "--watch").returncode == HELD


def test_a_gate_stops_a_run_before_re_sampling(home: Home) -> None:
    import_wrong_references(home, "wrong")
    gate = "[training]\n"
    recipe = write_recipe(
        home, "gated", **{'"demo-train"': '"wrong"', gate: f"[gate]\ncorrect_share = [0.02, 0.98]\n\n{gate}"}
    )
    home.ok("runs", "create", "--recipe", recipe)
    watched = home.run("iterate", "gated", "--watch")
    assert watched.returncode == HELD
    words = "gated is held (gate): iteration 0: 0 of 24 pre-samples correct (0.0%), and gate.correct_share is"
    assert words in watched.stderr
    assert words in home.ok("status", "gated")
