"""Each kind of verification through the queue: sampled from a server and judged by workers, in one stack."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hsstar.data.gym_problems import make_rows
from tests.acceptance.conftest import Home, temporary_home
from tests.checkout import ROOT

GYM = ("gym:chain_sum?size=2&seed=7", "gym:mini_sudoku?size=2&seed=7", "gym:rush_hour?size=2&seed=7")
SAMPLES = 6
RIGHT, WRONG, NONE = ("correct", "correct"), ("incorrect", "incorrect"), ("no_answer", "incorrect")
CHECK = """
def check(response, reference, problem):
    if "raise" in response:
        raise ValueError("unlucky")
    return len(response.split()) == int(reference)
"""
Judged = dict[str, tuple[str, str | None]]
"""Cause and verdict by response."""


class Kind(NamedTuple):
    """A kind of verification, its section in a recipe, and what becomes of responses to its problems."""

    section: str
    reference: Any
    judged: Judged


KINDS = {
    "math": Kind('kind = "math"', "1/2", {r"\boxed{0.5}": RIGHT, r"\boxed{2}": WRONG, "I do not know": NONE}),
    "choice": Kind('kind = "choice"', "B", {"It is blue.": RIGHT, "(A)": WRONG}),
    "exact": Kind(
        'kind = "exact"\nignore_case = true', "Oslo", {r"\boxed{oslo}": RIGHT, r"\boxed{Rome}": WRONG}
    ),
    "numeric": Kind(
        'kind = "numeric"\nabsolute_tolerance = 0.5', "3", {r"\boxed{3.4}": RIGHT, r"\boxed{3.6}": WRONG}
    ),
    "regex": Kind(
        'kind = "regex"',
        r"([a-z]+)+\d",
        {r"\boxed{ab7}": RIGHT, r"\boxed{ab}": WRONG, rf"\boxed{{{'a' * 40}!}}": ("timed_out", None)},
    ),
    "json": Kind(
        'kind = "json"\nkeys = ["total"]', '{"total": 3}', {'{"total": 3.0}': RIGHT, '{"total": 4}': WRONG}
    ),
    "python": Kind(
        'kind = "python"\nfunction = "own.py:check"\nmemory_limit_mb = 1024',
        "2",
        {"two words": RIGHT, "one": WRONG, "raise": ("check_failed", None)},
    ),
    "code": Kind(
        'kind = "code"\ndeadline_seconds = 1.0',
        ["assert double(4) == 8", "assert double('a') == 'aa'"],
        {
            "```python\ndef double(x):\n    return x + x\n```": RIGHT,
            "```python\ndef double(x):\n    return 2 + x\n```": WRONG,
            "```python\ndef double(x):\n    while True:\n        pass\n```": WRONG,
            "```python\nwhile True:\n    print('noise')\n```": WRONG,
            "no program": NONE,
        },
    ),
    "judge": Kind(
        'kind = "judge"\nbase_url = "URL"\nmodel = "policy"\nattempts = 2',
        "a whale",
        {"The blue whale.": RIGHT, "The mouse.": WRONG, "It depends.": ("check_failed", None)},
    ),
}
SAID = {
    "The blue whale.": "A whale indeed.\nVERDICT: correct",
    "The mouse.": "VERDICT: incorrect",
    "It depends.": "As you like.",
}
"""What the judge answers about each response."""


def problem_of(kind: str) -> dict[str, Any]:
    """The problem of a kind, as a row of a published layout."""
    statement = f"The {kind} problem.\n\n(A) red\n(B) blue"
    if kind == "code":
        return {"text": statement, "code": "", "test_list": KINDS[kind].reference, "task_id": 1}
    return {"problem": statement, "answer": KINDS[kind].reference}


def gym_responses() -> dict[str, Judged]:
    """By problem: the answer of its task, where it names one, in a tag, and a wrong one."""
    judged: dict[str, Judged] = {}
    for name in GYM:
        for _, row in make_rows(name):
            judged[row["question"]] = {"<answer>\n1\n</answer>": WRONG}
            if "rush_hour" not in name:
                judged[row["question"]][f"So:\n<answer>\n{row['answer']}\n</answer>"] = RIGHT
    return judged


@contextmanager
def scripted(home: Home, responses: dict[str, Judged]) -> Iterator[str]:
    """The address of a server that gives these responses and judges."""
    script = home.folder / "script.json"
    texts = {problem: list(judged) for problem, judged in responses.items()}
    script.write_text(json.dumps({"responses": texts, "verdicts": SAID}))
    command = [sys.executable, "-m", "tests.acceptance.scripted_server", str(script)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def write_recipe(folder: Path, url: str) -> Path:
    """A recipe with each kind for the dataset of its name."""
    (folder / "own.py").write_text(CHECK)
    sections = {kind: one.section.replace("URL", url) for kind, one in KINDS.items()} | {
        "gym": 'kind = "gym"'
    }
    server = f'[policy.openai]\nbase_url = "{url}"\nmodel = "policy"\nreload = "vllm"\n'
    path = folder / "kinds.toml"
    path.write_text(
        'extends = "builtin:demo"\nname = "kinds"\n[policy]\nengine = "openai"\n'
        + server
        + "".join(f"[verification.datasets.{kind}]\n{section}\n" for kind, section in sections.items())
    )
    return path


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_each_kind_judges_what_workers_have_sampled() -> None:
    pytest.importorskip("reasoning_gym")
    by_problem = gym_responses()
    for kind, one in KINDS.items():
        by_problem[next(iter(problem_of(kind).values()))] = one.judged
    with temporary_home() as home, scripted(home, by_problem) as url:
        home.ok("up", "--workers", "sample=1,verify=2,score=0,train=0")
        for kind in KINDS:
            file = home.folder / f"{kind}.jsonl"
            file.write_text(json.dumps(problem_of(kind)) + "\n")
            home.ok("problems", "import", str(file), "--dataset", kind, "--verification", kind)
        home.ok("problems", "import", *GYM, "--dataset", "gym", "--verification", "gym")
        recipe = write_recipe(home.folder, url)
        datasets = ",".join((*KINDS, "gym"))
        said = home.ok(
            "evaluate", "builtin:demo-policy", "--recipe", str(recipe), "--benchmarks", datasets,
            "--samples", str(SAMPLES), "--temperature", "1", "--format", "json",
        )  # fmt: skip
        rows = home.query(
            "select datasets.name as kind, statement, response, cause, verdict, cause_detail, verifier"
            " from samples join sample_responses on sample_id = samples.id"
            " join problems on problems.id = problem_id join datasets on datasets.id = dataset_id"
        )
        jobs = home.query("select kind, state, worker from jobs")
    assert len(rows) == SAMPLES * len(by_problem)
    for problem, judged in by_problem.items():
        found = {
            (row["response"], row["cause"], row["verdict"])
            for row in rows
            if " ".join(problem.split()) in " ".join(row["statement"].split())
        }
        assert found == {(response, *cause) for response, cause in judged.items()}
    assert len({(row["kind"], row["verifier"]) for row in rows}) == len(KINDS) + 1
    details = {row["response"]: row["cause_detail"] for row in rows}
    assert details["raise"] == "ValueError: unlucky (line 4 of own.py)"
    assert details["It depends."] == "no verdict in the judge's answer: As you like."
    assert details["The mouse."] == "VERDICT: incorrect"
    assert {job["state"] for job in jobs} == {"done"}
    assert len([job for job in jobs if job["kind"] == "verify"]) > len(KINDS)
    [policy] = json.loads(said)["policies"]
    accuracies = {each["benchmark"]: each["accuracy"] for each in policy["benchmarks"]}
    assert (accuracies["exact"], accuracies["regex"]) == (1 / 2, 1 / 3)
