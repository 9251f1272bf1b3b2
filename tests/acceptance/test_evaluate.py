"""Policies and given responses are measured on benchmarks through the real queue, and the counts fit."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from hsstar.data.benchmarks import find_file, read_benchmark
from hsstar.demo import family
from hsstar.domain.benchmarks import BENCHMARKS, Benchmark
from tests.acceptance.conftest import Home

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"
DRAWN = ("--prompt", "bare", "--max-new-tokens", "112")
MARKED = ("gsm8k", "math500", "minerva_math", "aime24")
"""Benchmarks whose published solutions mark their final answers."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(stack: Home) -> Path:
    """A folder with some easy sums as `amc23.jsonl` and `math500.jsonl`: parts, as far as counts go."""
    folder = stack.folder / "benchmarks"
    folder.mkdir()
    family.write_problems(folder / "sums.jsonl", family.distinct_problems(8, 3, held_out=True))
    given = [json.loads(line) for line in (folder / "sums.jsonl").read_text().splitlines()]
    for name in ("amc23", "math500"):
        write_rows(
            folder / f"{name}.jsonl",
            [
                {
                    "problem": row["question"],
                    "answer": row["answer"].split("####")[1].strip(),
                    "level": number % 2,
                }
                for number, row in enumerate(given)
            ],
        )
    return folder


def evaluate(home: Home, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(patiently(home, "evaluate", *arguments, "--format", "json"))
    return found


def patiently(home: Home, *arguments: str) -> str:
    """Runs `hsstar`, which has to succeed but may take minutes; its standard output."""
    running = home.start(*arguments)
    printed, said = running.communicate(timeout=900)
    assert running.returncode == 0, said
    return printed


def samples_there(home: Home) -> int:
    return int(home.query("select count(*) as samples from samples")[0]["samples"])


def test_a_policy_is_measured_once_and_its_twin_draws_the_same(stack: Home, data: Path) -> None:
    wish = ("--benchmarks", "amc23,math500", "--data", str(data), "--problems", "4", *DRAWN)
    (policy,) = evaluate(stack, "builtin:demo-policy", *wish)["policies"]
    amc, math = policy["benchmarks"]
    assert (amc["problems"], amc["drawn"], amc["decoding"]["samples"]) == (4, 4 * 32, 32)
    assert (math["problems"], math["drawn"]) == (4, 4)
    assert 0 < amc["accuracy"] <= amc["pass@32"] <= 1
    assert amc["pass@1"] == pytest.approx(amc["accuracy"])
    assert [found["problems"] for found in math["levels"].values()] == [2, 2]
    assert policy["mean"] == pytest.approx((amc["accuracy"] + math["accuracy"]) / 2)

    before = samples_there(stack)
    assert evaluate(stack, "builtin:demo-policy", *wish)["policies"] == [policy]
    assert samples_there(stack) == before
    stack.ok("models", "add", "twin", "builtin:demo-policy")
    both = evaluate(stack, "builtin:demo-policy", *wish, "--compare", "twin")
    assert both["policies"][1]["benchmarks"] == policy["benchmarks"]  # one address, one seed, one sample
    assert both["comparison"]["difference"] == 0
    assert both["comparison"]["benchmarks"][math["benchmark"]]["p_value"] == 1
    rows = stack.query("select * from evaluation_results where benchmark = 'math500' and model = 'twin'")
    assert [(row["accuracy"], row["problems"]) for row in rows] == [(math["accuracy"], 4)]


def test_ctrl_c_ends_the_view_and_the_same_command_goes_on(stack: Home, data: Path) -> None:
    arguments = ("evaluate", "twin", "--benchmarks", "amc23", "--data", str(data), "--problems", "8", *DRAWN,
                 "--seed", "5", "--samples", "4")  # fmt: skip
    watching = stack.start(*arguments)
    assert watching.stdout
    assert any(line.startswith("M_0 ") for line in iter(watching.stdout.readline, ""))
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "the same command shows the rest" in said
    done = stack.ok(*arguments)
    assert "temperature 0.6, top-p 0.95, 4 samples, 112 tokens" in done
    assert "maj@k" in done


# --- the published benchmarks ---------------------------------------------------------------------


def responses_file(home: Home, name: str, benchmarks: list[Benchmark], *, solutions: bool) -> Path:
    """A file with the published solutions, or with the reference answers, as responses."""
    return write_rows(
        home.folder / f"{name}.jsonl",
        [
            {
                "problem": problem.statement,
                "answer": problem.reference,
                "responses": [problem.solution if solutions else f"\\boxed{{{problem.reference}}}"],
            }
            for benchmark in benchmarks
            for problem in read_benchmark(benchmark, find_file(benchmark, PUBLISHED))
        ],
    )


@pytest.mark.heavy
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the benchmark files are not at hand")
@pytest.mark.timeout(1800)
def test_reference_solutions_and_answers_are_correct(stack: Home) -> None:
    patiently(stack, "benchmarks", "import", "--data", str(PUBLISHED))
    marked = [BENCHMARKS[name] for name in MARKED]
    solutions = responses_file(stack, "solutions", marked, solutions=True)
    found = evaluate(
        stack, "solutions", "--benchmarks", ",".join(MARKED), "--responses", str(solutions)
    )["policies"][0]["benchmarks"]  # fmt: skip
    assert [each["problems"] for each in found] == [benchmark.problems for benchmark in marked]
    assert all(each["accuracy"] >= 0.99 for each in found)

    answers = responses_file(stack, "answers", list(BENCHMARKS.values()), solutions=False)
    found = evaluate(stack, "answers", "--responses", str(answers))["policies"][0]["benchmarks"]
    assert sum(each["problems"] for each in found) == 5_654
    assert all(each["accuracy_readable"] >= 0.99 for each in found)
    unreadable = {each["benchmark"]: each["unreadable"] for each in found if each["unreadable"]}
    assert unreadable == {"minerva_math": 2, "olympiadbench": 2, "college_math": 109}
    assert all(
        each["accuracy"]
        == pytest.approx(each["accuracy_readable"] * (1 - each["unreadable"] / each["problems"]))
        for each in found
    )


@pytest.mark.heavy
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the benchmark files are not at hand")
@pytest.mark.timeout(1800)
def test_the_demo_policy_goes_through_all_seven_benchmarks(stack: Home) -> None:
    """Every problem, AIME and AMC with fewer samples; the accuracy is about nil: it was made for sums."""
    drawn = ("--data", str(PUBLISHED), "--prompt", "bare", "--max-new-tokens", "32")
    sampled = [name for name, benchmark in BENCHMARKS.items() if not benchmark.decoding.greedy]
    greedy = [name for name in BENCHMARKS if name not in sampled]
    found = []
    for names, further in ((greedy, ()), (sampled, ("--samples", "4"))):
        (policy,) = evaluate(
            stack, "builtin:demo-policy", "--benchmarks", ",".join(names), *drawn, *further
        )["policies"]  # fmt: skip
        found += policy["benchmarks"]
    assert {each["benchmark"]: each["problems"] for each in found} == {
        name: benchmark.problems for name, benchmark in BENCHMARKS.items()
    }
    for each in found:
        answered = each["problems"] - each["unreadable"] - each["left_out"]
        assert each["drawn"] == answered * each["decoding"]["samples"]
        assert each["accuracy"] < 0.1
        assert 0 < each["mean_tokens"] <= 32
