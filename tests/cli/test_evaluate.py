"""What `hsstar evaluate` and `hsstar report` print: every figure as plain code finds it from the samples."""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.domain.problems import Problem
from hsstar.domain.seeds import evaluation_seed
from hsstar.store import datasets
from hsstar.store.database import Database
from tests.cli.conftest import BROKEN, ENDLESS, WATCH, CommandLine, enqueue, hold_up, let_time_pass, working
from tests.deterministic import Script
from tests.store.factory import HELDOUT, add_problems

HERE = Path(__file__).parent
ANSWERS = {"+": "1", "-": "2", "?": ENDLESS, ".": ""}
"""What a policy answers where 1 is right, by the letter of the outcome."""

Outcomes = list[str]
"""A word per problem: a letter per sample, as in `ANSWERS`; empty where the reference cannot be read."""

SAMPLED: Outcomes = ["++++", "+--.", "--+-", "....", "", "?+++"]
GREEDY_A: Outcomes = ["+", "+", "-", ".", "", "+"]
GREEDY_B: Outcomes = ["+", "-", "-", "+", "", "."]
DEMO = "builtin:demo-policy"


def statement(dataset: str, number: int) -> str:
    return f"{dataset} problem {number}"


def add_dataset(database: Database, outcomes: Outcomes, dataset: str = "sums") -> None:
    """Problems of two subjects, and of three levels or none."""
    problems = [
        Problem(statement(dataset, number), "1", subject=f"s{number % 2}", level=(None, "1", "2")[number % 3])
        for number in range(len(outcomes))
    ]
    with database.begin() as connection:
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, problems, [word != "" for word in outcomes])


def script_of(**by_dataset: Outcomes) -> Script:
    """The answers of these words in the order of their slots, again from the first after the last."""
    answers = {}
    for dataset, outcomes in by_dataset.items():
        for number, word in enumerate(outcomes):
            problem = Problem(statement(dataset, number), "1")
            for slot in range(32 if word else 0):
                seed = evaluation_seed(0, 0, problem.key, slot)
                answers[problem.statement, seed] = (ANSWERS[word[slot % len(word)]], 0.5)
    return lambda statement, seed: answers[statement, seed]


def measure(cli: CommandLine, model: str, *options: str, **by_dataset: Outcomes) -> Any:
    """Evaluates a policy whose samples come out like this; the JSON document."""
    with working(cli, script_of(**by_dataset)):
        return cli.json("evaluate", model, "--benchmarks", ",".join(by_dataset), *options)


def shares(outcomes: Outcomes) -> list[float]:
    return [word.count("+") / len(word) if word else 0.0 for word in outcomes]


def error_of(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


GREEDY = ("--prompt", "bare")
SAMPLING = ("--samples", "4", "--temperature", "0.6", *GREEDY)
BOTH = ("--benchmarks", "one,two", *GREEDY, "--compare")


@pytest.fixture
def policies(alone: CommandLine, shared: Database) -> CommandLine:
    """The demo's policy is measured on `sums`, sampled; it and its `twin` on `one` and `two`, greedy."""
    alone.use(shared)
    if alone.rows("SELECT 1 FROM runs"):
        return alone
    for dataset, outcomes in (("sums", SAMPLED), ("one", GREEDY_A), ("two", GREEDY_A)):
        add_dataset(shared, outcomes, dataset)
    alone.ok("models", "add", "twin", DEMO)
    measure(alone, DEMO, *SAMPLING, sums=SAMPLED)
    change = """
        UPDATE samples SET tokens = CASE WHEN slot < 3 THEN 10 * slot + 7 END,
            finish_reason = CASE slot WHEN 0 THEN 'length' WHEN 1 THEN 'stop' WHEN 2 THEN 'stop' END
    """
    with shared.begin() as connection:
        connection.execute(text(change))
        # all three orders of votes: right, wrong, and none at all
        votes = "UPDATE majority_votes SET correct = statement = 'sums problem 0' FROM problems"
        connection.execute(text(f"{votes} WHERE problems.id = problem_id"))
    measure(alone, DEMO, *GREEDY, one=GREEDY_A, two=["-", "-", "+", "-", "", "-"])
    measure(alone, "twin", *GREEDY, one=GREEDY_B, two=["+", "+", "+", "-", "", "+"])
    return alone


@pytest.mark.slow
def test_json_has_the_figures_of_all_problems_and_of_their_groups(policies: CommandLine) -> None:
    """`sampled.json` has what four samples a problem come to by the words of `SAMPLED`."""

    def rounded(text: str) -> Any:
        return json.loads(text, parse_float=lambda figure: round(float(figure), 9))

    said = policies.ok("evaluate", DEMO, "--benchmarks", "sums", *SAMPLING, "--json")
    assert rounded(said)["policies"] == rounded((HERE / "sampled.json").read_text())


@pytest.mark.parametrize("file", ["sampled.md", "sampled.csv", "compared.md"])
def test_tables_are_as_they_were(policies: CommandLine, file: str) -> None:
    """With the figures of the JSON, what counts as not solved, and which is minus which."""
    options = ("--benchmarks", "sums", *SAMPLING) if file.startswith("sampled") else (*BOTH, "twin")
    shown_as = {"md": "markdown", "csv": "csv"}[file.partition(".")[2]]
    said = policies.ok("evaluate", DEMO, *options, "--format", shown_as)
    assert said.replace("\r\n", "\n") == (HERE / file).read_text()


def test_a_comparison_is_the_second_policy_minus_the_first(policies: CommandLine) -> None:
    found = policies.json("evaluate", DEMO, *BOTH, "twin")
    assert [(policy["model"], policy["mean"]) for policy in found["policies"]] == [
        (DEMO, pytest.approx((3 / 6 + 1 / 6) / 2)),
        ("twin", pytest.approx((2 / 6 + 4 / 6) / 2)),
    ]
    comparison = found["comparison"]
    one, two = comparison["benchmarks"]["one"], comparison["benchmarks"]["two"]
    intervals = [part.pop("interval") for part in (comparison, one, two)]
    for interval, difference in zip(intervals, (1 / 6, -1 / 6, 3 / 6), strict=True):
        assert interval["low"] < difference < interval["high"]
    assert intervals[2]["low"] >= 0
    assert comparison["difference"] == pytest.approx(1 / 6)
    names = ("problems", "difference", "only_first", "only_second", "p_value")
    assert one == dict(zip(names, (6, pytest.approx(-1 / 6), 2, 1, 1.0), strict=True))
    assert two == dict(zip(names, (6, pytest.approx(3 / 6), 0, 3, pytest.approx(2 / 2**3)), strict=True))


def newest(cli: CommandLine) -> dict[str, Any]:
    """What the newest evaluation is stored with."""
    (row,) = cli.rows("""
        SELECT recipe || jsonb_build_object(
            'samples', evaluations.samples, 'temperature', temperature, 'top_p', top_p,
            'top_k', top_k, 'min_p', min_p, 'repetition_penalty', repetition_penalty,
            'max_new_tokens', max_new_tokens, 'run', name, 'problems',
            (SELECT jsonb_agg(statement ORDER BY position) FROM round_problems
                JOIN problems ON problems.id = problem_id WHERE round_id = rounds.id)
        )
        FROM rounds JOIN runs ON runs.id = run_id JOIN evaluations ON evaluations.round_id = rounds.id
        ORDER BY rounds.id DESC LIMIT 1
    """)
    stored: dict[str, Any] = row[0]
    return stored


def test_every_option_of_the_drawing_reaches_the_rows(cli: CommandLine) -> None:
    add_dataset(cli.database, SAMPLED)
    recipe = cli.recipe(("[policy]\n", '[policy]\ndtype = "float32"\n'))
    cuts = {"top_p": 0.5, "top_k": 20, "min_p": 0.125, "repetition_penalty": 1.5}
    drawing = {"samples": 3, "temperature": 0.25, "max_new_tokens": 77, "seed": 9} | cuts
    options = [f"--{name.replace('_', '-')}={value}" for name, value in ({"problems": 2} | drawing).items()]
    evaluate = ("evaluate", DEMO, "--benchmarks", "sums", *options, "--recipe", recipe)
    with working(cli):
        cli.ok(*evaluate)
        found = newest(cli)
        cli.ok(*evaluate, "--prompt", "qwen25-step-cot")
        assert newest(cli)["policy"]["prompt"] == "qwen25-step-cot"
        cli.ok(*evaluate, "--seed", "10", "--problems", "6")
        assert (newest(cli)["seed"], len(newest(cli)["problems"])) == (10, 6)
    run, policy = found["run"], {"model": DEMO, "prompt": "bare", "dtype": "float32"}
    problems = {"problems": ["sums problem 0", "sums problem 1"]}
    assert found == found | drawing | problems | {"policy": found["policy"] | policy}
    assert len(cli.rows("SELECT name FROM runs")) == 3
    assert re.fullmatch("evaluate-builtin-demo-policy-[0-9a-f]{8}", run)
    only_evaluates = f"run '{run}' only evaluates: it has no training problems"
    assert cli.refused("iterate", run) == only_evaluates
    file = cli.file("x.jsonl", {"problem": "1+1=?", "answer": "2", "responses": ["2"]})
    assert cli.refused("samples", "import", file, "--run", run, "--dataset", "d") == only_evaluates


def test_an_imported_benchmark_is_measured_by_its_protocol(cli: CommandLine) -> None:
    add_dataset(cli.database, GREEDY_A, "benchmarks/amc23")
    with cli.database.begin() as connection:
        dataset = datasets.find_dataset(connection, "benchmarks/amc23")
        datasets.mark_benchmark(connection, dataset.id, "amc23", "content")
    with working(cli, script_of(**{"benchmarks/amc23": GREEDY_A})):
        called = cli("evaluate", DEMO, "--benchmarks", "amc23", *GREEDY, "--json")
    assert called.err.splitlines()[0] == "amc23: 6 problems, 1 references cannot be read"
    (found,) = json.loads(called.out)["policies"][0]["benchmarks"]
    decoding = {"temperature": 0.6, "top_p": 0.95, "samples": 32, "max_new_tokens": 2048}
    decoding |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    accuracy = pytest.approx(statistics.fmean(shares(GREEDY_A)))
    expected = {"benchmark": "amc23", "drawn": 5 * 32, "decoding": decoding, "accuracy": accuracy}
    assert found == found | expected
    cli.file("amc23.jsonl", *({"problem": f"problem {n}", "answer": str(n + 1)} for n in range(8)))
    of_a_file = ("--data", str(cli.folder), "--problems", "2", "--samples", "2", *GREEDY)
    with working(cli):
        called = cli("evaluate", DEMO, "--benchmarks", "amc23", *of_a_file, terminal=True)
    assert called.err.startswith("\r8 references read benchmarks/amc23-part-")
    assert (len(newest(cli)["problems"]), newest(cli)["samples"]) == (2, 2)


def test_an_evaluation_that_failed_jobs_hold_up_shows_no_result(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dataset(cli.database, GREEDY_A)
    let_time_pass(monkeypatch, WATCH, lambda: hold_up(cli))
    called = cli("evaluate", DEMO, "--benchmarks", "sums", *GREEDY, "--json")
    assert (called.code, called.out) == (1, "")  # a program that reads the output gets no half of a document
    assert "is incomplete and cannot continue" in called.err
    assert f"verify jobs failed: {BROKEN}" in called.err


def test_given_responses_are_measured_as_they_are(cli: CommandLine) -> None:
    """Of six problems one is unreadable and one has no response; a response belongs to no problem."""
    add_dataset(cli.database, GREEDY_A)
    rows = [
        {"problem": statement("sums", number), "answer": "1",
         "responses": [f"so \\boxed{{{ANSWERS[letter]}}}" for letter in word]}
        for number, word in ((0, "+-"), (1, "+"), (2, "-"), (5, "+"), (9, "+"))
    ]  # fmt: skip
    cut = {"response": "so \\boxed{1}", "finish_reason": "length"}
    file = cli.file("given.jsonl", *rows[:3], rows[3] | {"responses": [cut]}, rows[4])
    evaluate = ("evaluate", "given", "--benchmarks", "sums")
    with working(cli):
        called = cli(*evaluate, "--responses", file, "--json")
    assert called.code == 0, called
    assert "sums: 2 problems have no response and count as not solved" in called.err
    assert "1 responses belong to no problem of these benchmarks" in called.err
    (found,) = json.loads(called.out)["policies"][0]["benchmarks"]
    values = [1 / 2, 1.0, 0.0, 0.0, 0.0, 1.0]
    accuracy, error = statistics.fmean(values), error_of(values)
    expected = {"accuracy": pytest.approx(accuracy), "standard_error": pytest.approx(error), "drawn": 5}
    expected |= {"unreadable": 1, "left_out": 1, "decoding": None, "mean_tokens": None}
    assert found == found | expected | {"truncated_share": 1.0}  # of the one that says how it ended
    assert cli.json(*evaluate, "--responses", file) == json.loads(called.out)
    said = cli.ok(*evaluate, "--format", "markdown")
    assert f"| sums | 6 | given responses | {accuracy:.3f} ± {error:.3f} |" in said
    left_out = "sums: 1 problems were left out and count as not solved, for example: no response was given"
    assert left_out in said
    cli.ok("models", "add", "twin", DEMO)
    message = cli.refused("evaluate", "twin", "--benchmarks", "sums", "--responses", file)
    assert message == f"'twin' is a policy ({DEMO}); give the responses another name"
    other = cli.file("other.jsonl", *rows[:3])
    assert "'given' stands for other responses" in cli.refused(*evaluate, "--responses", other)
    add_dataset(cli.database, GREEDY_A, "more")
    unmeasured = cli.refused("evaluate", "given", "--benchmarks", "more")
    assert "there are none for more; import them: hsstar evaluate given --responses FILE" in unmeasured


def test_responses_to_a_batch_of_requests_are_measured_by_their_names(cli: CommandLine) -> None:
    """By the key of a statement, or by the problem's own id."""
    add_dataset(cli.database, GREEDY_A)
    with cli.database.begin() as connection:
        connection.execute(text("UPDATE problems SET source_id = 'p' || id WHERE reference_readable"))
    named = cli.rows("SELECT source_id, key FROM problems WHERE source_id IS NOT NULL ORDER BY id LIMIT 2")
    body = {"choices": [{"message": {"content": "so \\boxed{1}"}, "finish_reason": "stop"}]}
    names = [named[0][0], named[1][1], "nobody"]
    rows = [{"custom_id": name, "response": {"body": body}, "error": None} for name in names]
    with working(cli):
        called = cli("evaluate", "batch", "--benchmarks", "sums", "--responses", cli.file("out.jsonl", *rows))
    assert called.code == 0, called
    assert "1 responses belong to no problem of these benchmarks" in called.err
    mapped = cli.file("odd.jsonl", *({"q": statement("sums", 0), "out": [said]} for said in ("1", None)))
    reading = ("--map", "statement=q", "--map", "response=out.0", "--skip-bad")
    with working(cli):
        skipped = cli("evaluate", "odd", "--benchmarks", "sums", "--responses", mapped, *reading)
    assert skipped.code == 0, skipped
    assert "1 rows left out:" in skipped.err
    assert "odd.jsonl:2: expected a response as text or object, found null" in skipped.err
    assert "--map and --skip-bad go with --responses" in cli("evaluate", DEMO, "--skip-bad").err
    found = cli.rows("""
        SELECT source_id FROM samples JOIN problems ON problems.id = problem_id
        WHERE worker = 'import:out.jsonl' ORDER BY 1
    """)
    assert found == sorted((name,) for name, _ in named)


def test_the_table_of_a_run_is_what_its_evaluations_say(cli: CommandLine) -> None:
    """A row per policy; a column per benchmark, the held-out problems last; the mean is of the benchmarks."""
    for dataset in ("more", "sums"):
        add_dataset(cli.database, GREEDY_A, dataset)
    with cli.database.begin() as connection:
        add_problems(connection, 5, HELDOUT)
    enqueue(cli, evaluation={"dataset": HELDOUT, "benchmarks": ["sums", "more"]})
    assert "run 'r' has no evaluation" in cli.refused("report", "r")
    cli.worker().work()
    measured = cli.rows("""
        SELECT number, datasets.name, accuracy, standard_error
        FROM evaluations JOIN rounds ON rounds.id = round_id JOIN datasets ON datasets.id = dataset_id
    """)
    shown = ["**Run r**", "", f"|  | policy | more | sums | {HELDOUT} | mean |", "|" + " --- |" * 6]
    for number, (row, model) in enumerate(zip(cli.csv("report", "r"), ("M0", "r-M1"), strict=True)):
        means = {dataset: mean for iteration, dataset, mean, _ in measured if iteration == number}
        errors = {dataset: error for iteration, dataset, _, error in measured if iteration == number}
        means["mean"] = (means["sums"] + means["more"]) / 2
        assert (row["iteration"], row["model"]) == (str(number), model)
        assert {name: float(row[name]) for name in means} == pytest.approx(means)
        assert {name: float(row[f"{name}_standard_error"]) for name in errors} == errors
        cells = [f"{means[name]:.3f} ± {errors[name]:.3f}" for name in ("more", "sums", HELDOUT)]
        shown.append(f"| M_{number} | {model} | {' | '.join(cells)} | {means['mean']:.3f} |")
    accuracies, _, iterations = cli.ok("report", "r", "--format", "markdown").partition(
        "\n\n|  | iteration 0 |"
    )
    assert accuracies.splitlines() == shown
    assert iterations
