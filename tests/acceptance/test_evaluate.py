"""Policies and given responses are measured on benchmarks through the real queue, and the counts fit."""

import csv
import io
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
    wish = ("--benchmarks", "amc23,math500", "--data", str(data), "--problems", "6", *DRAWN)
    (policy,) = evaluate(stack, "builtin:demo-policy", *wish)["policies"]
    amc, math = policy["benchmarks"]
    assert (amc["problems"], amc["drawn"], amc["decoding"]["samples"]) == (6, 6 * 32, 32)
    assert (math["problems"], math["drawn"]) == (6, 6)
    assert 0 < amc["accuracy"] <= amc["pass@32"] <= 1
    assert amc["pass@1"] == pytest.approx(amc["accuracy"])
    assert [found["problems"] for found in math["levels"].values()] == [3, 3]
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
    assert [(row["accuracy"], row["problems"]) for row in rows] == [(math["accuracy"], 6)]


def test_ctrl_c_ends_the_view_and_the_same_command_goes_on(stack: Home, data: Path) -> None:
    arguments = ("evaluate", "twin", "--benchmarks", "amc23", "--data", str(data), "--problems", "8", *DRAWN,
                 "--seed", "5")  # fmt: skip
    watching = stack.start(*arguments)
    stack.wait_for(
        "select name from runs join rounds on run_id = runs.id where name like 'evaluate-twin%' and seed = 5",
        bool,
    )
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "the same command shows the rest" in said
    done = stack.ok(*arguments)
    assert "temperature 0.6, top-p 0.95, 32 samples, 112 tokens" in done
    assert "maj@k" in done


def test_given_responses_count_as_they_are(stack: Home, data: Path) -> None:
    """Of eight problems five are answered rightly, two wrongly, and one is not answered."""
    rows = [json.loads(line) for line in (data / "math500.jsonl").read_text().splitlines()]
    given = [
        row | {"responses": [f"\\boxed{{{int(row['answer']) + (number > 4)}}}"]}
        for number, row in enumerate(rows[:7])
    ]
    file = write_rows(
        stack.folder / "given.jsonl", [*given, {"problem": "9-8=?", "answer": "1", "responses": ["1"]}]
    )
    stack.ok("problems", "import", str(data / "math500.jsonl"), "--format", "math", "--dataset", "sums")
    arguments = ("evaluate", "given", "--benchmarks", "sums", "--responses", str(file))
    done = stack.run(*arguments, "--format", "csv")
    assert "sums: 1 problems have no response and count as not solved" in done.stderr
    assert "1 responses belong to no problem of these benchmarks" in done.stderr
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["by"], row["group"], row["problems"]) for row in found[:3]] == [
        ("all", "", "8"), ("level", "0", "4"), ("level", "1", "4"),
    ]  # fmt: skip
    assert float(found[0]["accuracy"]) == 5 / 8
    assert found[-1]["benchmark"] == "mean"
    assert "| sums | 8 | given responses | 0.625 ± 0.183 |" in stack.ok(*arguments, "--format", "markdown")
    assert "0.625 ± 0.183" in stack.ok("evaluate", "given", "--benchmarks", "sums")

    other = write_rows(stack.folder / "other.jsonl", given[:3])
    assert "stands for other responses" in stack.refused(*arguments[:-1], str(other))
    assert "there are none for demo-heldout" in stack.refused(
        "evaluate", "given", "--benchmarks", "demo-heldout"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--benchmarks", "gsm9k"), "there is neither a benchmark nor a dataset 'gsm9k'"),
        (("--benchmarks", ","), "at least one benchmark"),
        (("--benchmarks", "amc23", "--data", "{data}"), "amc23.jsonl holds 8 problems, and AMC 2023 has 40"),
        (("--benchmarks", "gsm8k", "--data", "{data}"), "has no file of GSM8K"),
        (("--benchmarks", "sums", "--prompt", "bear"), "unknown prompt template"),
        (("--benchmarks", "sums", "--samples", "4"), "4 samples at temperature 0 are all the same"),
        (("--benchmarks", "sums", "--problems", "9"), "sums holds 8 problems, and 9 are asked for"),
        (("--benchmarks", "sums", "--responses", "x.jsonl", "--problems", "1"), "--responses goes with"),
        (("--benchmarks", "sums", "--responses", "/no/such.jsonl"), "/no/such.jsonl does not exist"),
        (("--benchmarks", "sums", "--recipe", "/no/such.toml"), "no such file"),
        (("--benchmarks", "sums", "--compare", "builtin:demo-policy"), "builtin:demo-policy itself"),
        (("--benchmarks", "sums", "--compare", "/no/such/policy"), "/no/such/policy"),
        (("--benchmarks", "sums", "--engine", "openai"), "[policy]: engine = 'openai' needs [policy.openai]"),
    ],
)
def test_what_does_not_fit_is_one_line(
    stack: Home, data: Path, arguments: tuple[str, ...], expected: str
) -> None:
    stack.ok("problems", "import", str(data / "math500.jsonl"), "--format", "math", "--dataset", "sums")
    before = samples_there(stack)
    given = [part.format(data=data) for part in arguments]
    assert expected in stack.refused("evaluate", "builtin:demo-policy", *given)
    assert samples_there(stack) == before


def test_a_policy_that_is_not_there_and_a_run_without_evaluations(stack: Home, data: Path) -> None:
    stack.ok("problems", "import", str(data / "math500.jsonl"), "--format", "math", "--dataset", "sums")
    assert "/no/such/policy" in stack.refused("evaluate", "/no/such/policy", "--benchmarks", "sums")
    assert "there is no run 'nothing'" in stack.refused("report", "nothing")
    assert "kept for hsstar" in stack.refused(
        "problems", "import", str(data / "sums.jsonl"), "--dataset", "benchmarks/gsm8k"
    )


def test_a_run_measures_itself_and_reports_a_table(stack: Home, data: Path) -> None:
    """Besides, the training problems that the benchmark holds too are told, and passed over on demand."""
    stack.ok("problems", "import", str(data / "math500.jsonl"), "--format", "math", "--dataset", "sums")
    recipe = stack.write_recipe("measured", problems=12)
    text = recipe.read_text().replace("[policy]", 'overlaps = "exclude"\n\n[policy]', 1)
    recipe.write_text(text + 'benchmarks = [{ name = "sums", max_new_tokens = 112 }, "demo-train-2"]\n')
    assert "nor a dataset 'demo-train-2'" in stack.refused("runs", "create", "--recipe", str(recipe))
    stack.ok("problems", "import", str(stack.folder / "demo-train.jsonl"), "--dataset", "demo-train-2")
    done = stack.run("runs", "create", "--recipe", str(recipe))
    assert "12 are asked for" in done.stderr, done.stderr  # every training problem overlaps demo-train-2
    recipe.write_text(recipe.read_text().replace(', "demo-train-2"', ""))
    done = stack.run("runs", "create", "--recipe", str(recipe))
    assert done.returncode == 0, done.stderr
    stack.ok("iterate", "measured", "--watch")
    rows = list(csv.DictReader(io.StringIO(stack.ok("report", "measured", "--format", "csv"))))
    assert [(row["iteration"], row["model"]) for row in rows] == [
        ("0", "builtin:demo-policy"), ("1", "measured-M1"),
    ]  # fmt: skip
    (iteration,) = stack.query("select * from iteration_statistics where run = 'measured'")
    assert float(rows[0]["demo-heldout"]) == iteration["heldout_accuracy_before"]
    assert float(rows[1]["demo-heldout"]) == iteration["heldout_accuracy_after"]
    assert all(0 <= float(row["sums"]) == float(row["mean"]) <= 1 for row in rows)
    assert "| M_1 | measured-M1 |" in stack.ok("report", "measured", "--format", "markdown")
    assert "M_1" in stack.ok("report", "measured")


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
