"""What `hsstar evaluate` and `hsstar report` print: every figure as plain code finds it from the samples."""

import csv
import io
import json
import math
import re
import statistics
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.domain.problems import Problem
from hsstar.domain.seeds import evaluation_seed
from hsstar.store import datasets
from hsstar.store.database import Database
from tests.cli.conftest import ENDLESS, CommandLine, working
from tests.deterministic import Script
from tests.store.factory import HELDOUT, add_problems, add_run, make_recipe

pytestmark = pytest.mark.timeout(60)

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


SAMPLING = ("--samples", "4", "--temperature", "0.6", "--prompt", "bare")


@pytest.fixture
def sampled(cli: CommandLine) -> CommandLine:
    """The demo's policy measured with four samples a problem; of these lengths, some of them cut."""
    add_dataset(cli.database, SAMPLED)
    measure(cli, DEMO, *SAMPLING, sums=SAMPLED)
    with cli.database.begin() as connection:
        connection.execute(
            text("""
                UPDATE samples SET tokens = CASE WHEN slot < 3 THEN 10 * slot + 7 END,
                    finish_reason = CASE slot WHEN 0 THEN 'length' WHEN 1 THEN 'stop' WHEN 2 THEN 'stop' END
            """)
        )
        # all three orders of votes: right, wrong, and none at all
        connection.execute(
            text("""
                UPDATE majority_votes SET correct = statement = 'sums problem 0'
                FROM problems WHERE problems.id = problem_id
            """)
        )
    return cli


def expected_figures(outcomes: Outcomes, majority: float) -> dict[str, Any]:
    """The figures of four samples a problem, from the words alone."""
    values, drawn = shares(outcomes), [word for word in outcomes if word]
    choices = {
        k: [math.comb(4 - word.count("+"), k) / math.comb(4, k) if word else 1.0 for word in outcomes]
        for k in (1, 2, 4)
    }
    return {
        "problems": len(outcomes),
        "unreadable": outcomes.count(""),
        "left_out": 0,
        "drawn": 4 * len(drawn),
        "without_verdict": sum(word.count("?") for word in outcomes),
        "accuracy": pytest.approx(sum(values) / len(values)),
        "standard_error": pytest.approx(error_of(values)),
        "accuracy_readable": pytest.approx(sum(values) / len(drawn)),
        "majority": pytest.approx(majority / len(outcomes)),
        "mean_tokens": (7 + 17 + 27) / 3,
        "truncated_share": pytest.approx(1 / 3),
    } | {f"pass@{k}": pytest.approx(1 - statistics.fmean(missed)) for k, missed in choices.items()}


def test_json_has_the_figures_of_all_problems_and_of_their_groups(sampled: CommandLine) -> None:
    (policy,) = sampled.json("evaluate", DEMO, "--benchmarks", "sums", *SAMPLING)["policies"]
    assert policy["model"] == DEMO
    assert policy["mean"] == pytest.approx(statistics.fmean(shares(SAMPLED)))
    (found,) = policy["benchmarks"]
    groups = found.pop("subjects"), found.pop("levels")
    decoding = {"temperature": 0.6, "top_p": 1.0, "samples": 4, "max_new_tokens": 2048}
    assert found == expected_figures(SAMPLED, 1) | {"benchmark": "sums", "decoding": decoding}
    assert groups == (
        {"s0": expected_figures(SAMPLED[::2], 1), "s1": expected_figures(SAMPLED[1::2], 0)},
        {"1": expected_figures(SAMPLED[1::3], 0), "2": expected_figures(SAMPLED[2::3], 0)},
    )


def test_csv_has_a_row_for_all_problems_for_each_group_and_for_the_mean(sampled: CommandLine) -> None:
    said = sampled.ok("evaluate", DEMO, "--benchmarks", "sums", *SAMPLING, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said)))
    parts = [SAMPLED, SAMPLED[::2], SAMPLED[1::2], SAMPLED[1::3], SAMPLED[2::3]]
    assert [(row["by"], row["group"]) for row in rows] == [
        ("all", ""), ("subject", "s0"), ("subject", "s1"), ("level", "1"), ("level", "2"), ("all", ""),
    ]  # fmt: skip
    for row, part, majority in zip(rows, parts, (1, 1, 0, 0, 0), strict=False):
        figures = expected_figures(part, majority)
        assert (row["model"], row["benchmark"]) == (DEMO, "sums")
        assert {name: float(row[name]) for name in figures} == figures
    assert rows[-1]["benchmark"] == "mean"
    assert float(rows[-1]["accuracy"]) == pytest.approx(statistics.fmean(shares(SAMPLED)))


def test_the_table_shows_the_same_figures_and_says_what_counts_as_not_solved(sampled: CommandLine) -> None:
    said = sampled.ok("evaluate", DEMO, "--benchmarks", "sums", *SAMPLING, "--format", "markdown")
    values = shares(SAMPLED)
    accuracy = f"{statistics.fmean(values):.3f} ± {error_of(values):.3f}"
    pass_at = f"{sum('+' in word for word in SAMPLED) / 6:.3f} (k = 4)"
    decoding = "temperature 0.6, 4 samples, 2048 tokens"
    assert f"**{DEMO}**" in said
    assert f"| sums | 6 | {decoding} | {accuracy} | {pass_at} | 0.167 | 17.0 | 33.3% | 1 | 0 |" in said
    for by, name, part in (("subject", "s1", SAMPLED[1::2]), ("level", "2", SAMPLED[2::3])):
        own = shares(part)
        shown = f"{statistics.fmean(own):.3f} ± {error_of(own):.3f}"
        assert f"| sums | {by} | {name} | {len(part)} | {shown} |" in said
    readable = sum(values) / 5
    assert f"sums: 1 reference answers cannot be read; these problems count as not solved. Over the others " \
           f"the accuracy is {readable:.3f}" in said  # fmt: skip
    assert "sums: 1 samples were not decided (time or memory) and count as not correct" in said


@pytest.fixture
def two_policies(cli: CommandLine) -> CommandLine:
    """`builtin:demo-policy` and `twin`, both measured on `sums` (greedy) and `more` (`twin` solves more)."""
    for dataset in ("sums", "more"):
        add_dataset(cli.database, GREEDY_A, dataset)
    cli.ok("models", "add", "twin", DEMO)
    prompt = ("--prompt", "bare")
    measure(cli, DEMO, *prompt, sums=GREEDY_A, more=["-", "-", "+", "-", "", "-"])
    measure(cli, "twin", *prompt, sums=GREEDY_B, more=["+", "+", "+", "-", "", "+"])
    return cli


BOTH = ("--benchmarks", "sums,more", "--prompt", "bare", "--compare")


def test_a_comparison_is_the_second_policy_minus_the_first(two_policies: CommandLine) -> None:
    found = two_policies.json("evaluate", DEMO, *BOTH, "twin")
    assert [policy["model"] for policy in found["policies"]] == [DEMO, "twin"]
    assert [policy["mean"] for policy in found["policies"]] == [
        pytest.approx((3 / 6 + 1 / 6) / 2), pytest.approx((2 / 6 + 4 / 6) / 2),
    ]  # fmt: skip
    comparison = found["comparison"]
    sums, more = comparison["benchmarks"]["sums"], comparison["benchmarks"]["more"]
    assert comparison["difference"] == pytest.approx((-1 / 6 + 3 / 6) / 2)
    assert sums | {"interval": None} == {
        "problems": 6, "difference": pytest.approx(-1 / 6), "interval": None, "only_first": 2,
        "only_second": 1, "p_value": 1.0,
    }  # fmt: skip
    assert more | {"interval": None} == {
        "problems": 6, "difference": pytest.approx(3 / 6), "interval": None, "only_first": 0,
        "only_second": 3, "p_value": pytest.approx(2 / 2**3),
    }  # fmt: skip
    for part in (comparison, sums, more):
        assert part["interval"]["low"] < part["difference"] < part["interval"]["high"]
    assert more["interval"]["low"] >= 0
    reverse = two_policies.json("evaluate", "twin", *BOTH, DEMO)["comparison"]
    assert reverse["difference"] == pytest.approx(-comparison["difference"])
    assert (reverse["benchmarks"]["more"]["only_first"], reverse["benchmarks"]["more"]["only_second"]) == (
        3,
        0,
    )


def test_the_table_of_a_comparison_says_which_policy_is_taken_from_which(two_policies: CommandLine) -> None:
    said = two_policies.ok("evaluate", DEMO, *BOTH, "twin", "--format", "markdown")
    lines = said.partition(f"**twin minus {DEMO}**")[2].strip().splitlines()
    assert lines[0].startswith("| benchmark | problems | difference | 95 % interval | only the first |")
    assert lines[2].startswith("| sums | 6 | -0.167 | ")
    assert lines[2].endswith(" | 2 | 1 | 1 |")
    assert lines[3].startswith("| more | 6 | +0.500 | +")
    assert lines[3].endswith(" | 0 | 3 | 0.25 |")
    assert lines[4].startswith("| mean of 2 |  | +0.167 | ")
    assert f"| mean of 2 |  |  | {(3 / 6 + 1 / 6) / 2:.3f} |" in said
    assert f"**{DEMO} minus twin**" in two_policies.ok(
        "evaluate", "twin", *BOTH, DEMO, "--format", "markdown"
    )


def stored(cli: CommandLine) -> dict[str, Any]:
    """What the newest evaluation is stored with."""
    (row,) = cli.rows("""
        SELECT runs.recipe, evaluation_key, evaluations.samples, temperature, top_p, max_new_tokens,
            (SELECT array_agg(statement ORDER BY position) FROM round_problems
                JOIN problems ON problems.id = problem_id WHERE round_id = rounds.id)
        FROM rounds JOIN runs ON runs.id = run_id JOIN evaluations ON evaluations.round_id = rounds.id
        ORDER BY rounds.id DESC LIMIT 1
    """)
    names = ("recipe", "key", "samples", "temperature", "top_p", "max_new_tokens", "problems")
    return dict(zip(names, row, strict=True))


def test_every_option_of_the_drawing_reaches_the_rows(cli: CommandLine) -> None:
    add_dataset(cli.database, SAMPLED)
    recipe = cli.recipe(("[policy]\n", '[policy]\ndtype = "float32"\n'))
    options = (
        "--problems", "2", "--samples", "3", "--temperature", "0.25", "--top-p", "0.5",
        "--max-new-tokens", "77", "--seed", "9", "--recipe", recipe,
    )  # fmt: skip
    measured = ("evaluate", DEMO, "--benchmarks", "sums", *options)
    with working(cli):
        cli.ok(*measured)
    found = stored(cli)
    assert (found["samples"], found["temperature"], found["top_p"]) == (3, 0.25, 0.5)
    assert found["max_new_tokens"] == 77
    assert found["problems"] == ["sums problem 0", "sums problem 1"]
    assert found["recipe"]["seed"] == 9
    policy = found["recipe"]["policy"]
    assert (policy["model"], policy["prompt"], policy["dtype"]) == (DEMO, "bare", "float32")
    runs = cli.rows("SELECT name FROM runs")
    with working(cli):
        cli.ok(*measured, "--prompt", "qwen25-step-cot")
    assert stored(cli)["recipe"]["policy"]["prompt"] == "qwen25-step-cot"
    with working(cli):
        cli.ok(*measured, "--seed", "10", "--problems", "6")
    assert (stored(cli)["recipe"]["seed"], len(stored(cli)["problems"])) == (10, 6)
    assert len(cli.rows("SELECT name FROM runs")) == len(runs) + 2
    assert re.fullmatch("evaluate-builtin-demo-policy-[0-9a-f]{8}", runs[0][0])
    only_evaluates = f"run '{runs[0][0]}' only evaluates: it has no training problems"
    assert cli.refused("iterate", runs[0][0]) == only_evaluates
    file = cli.file("x.jsonl", {"problem": "1+1=?", "answer": "2", "responses": ["2"]})
    assert cli.refused("samples", "import", file, "--run", runs[0][0], "--dataset", "d") == only_evaluates


def test_an_imported_benchmark_is_measured_by_its_protocol(cli: CommandLine) -> None:
    add_dataset(cli.database, SAMPLED, "benchmarks/amc23")
    with cli.database.begin() as connection:
        dataset = datasets.find_dataset(connection, "benchmarks/amc23")
        datasets.mark_benchmark(connection, dataset.id, "amc23", "content")
    with working(cli, script_of(**{"benchmarks/amc23": SAMPLED})):
        called = cli("evaluate", DEMO, "--benchmarks", "amc23", "--prompt", "bare", "--json")
    assert called.err.splitlines()[0] == "amc23: 6 problems, 1 references cannot be read"
    (found,) = json.loads(called.out)["policies"][0]["benchmarks"]
    assert (found["benchmark"], found["drawn"]) == ("amc23", 5 * 32)
    cli.file("amc23.jsonl", *({"problem": f"problem {n}", "answer": str(n + 1)} for n in range(8)))
    of_a_file = ("--data", str(cli.folder), "--problems", "2", "--samples", "2", "--prompt", "bare")
    with working(cli):
        called = cli("evaluate", DEMO, "--benchmarks", "amc23", *of_a_file, terminal=True)
    assert called.err.startswith("\r8 references read benchmarks/amc23-part-")
    assert (len(stored(cli)["problems"]), stored(cli)["samples"]) == (2, 2)
    assert found["decoding"] == {"temperature": 0.6, "top_p": 0.95, "samples": 32, "max_new_tokens": 2048}
    assert found["accuracy"] == pytest.approx(statistics.fmean(shares(SAMPLED)))


def test_an_evaluation_that_failed_jobs_hold_up_shows_no_result(cli: CommandLine) -> None:
    add_dataset(cli.database, GREEDY_A)
    measured = ("evaluate", DEMO, "--benchmarks", "sums", "--prompt", "bare", "--json")
    with working(cli, script_of(sums=GREEDY_A)):
        cli.ok(*measured)
    with cli.database.begin() as connection:
        connection.execute(text("UPDATE samples SET verdict = NULL, cause = NULL"))
        connection.execute(
            text("UPDATE evaluations SET finished_at = NULL, accuracy = NULL, standard_error = NULL")
        )
        connection.execute(text("UPDATE jobs SET state = 'failed', error = 'it broke' WHERE kind = 'verify'"))
    called = cli(*measured)
    assert (called.code, called.out) == (1, "")  # a program that reads the output gets no half of a document
    assert "is incomplete and cannot continue" in called.err
    assert "verify jobs failed: it broke" in called.err


def test_given_responses_are_measured_as_they_are(cli: CommandLine) -> None:
    """Of six problems one is unreadable and one has no response; a response belongs to no problem."""
    add_dataset(cli.database, GREEDY_A)
    given = [(0, "+-"), (1, "+"), (2, "-"), (5, "+"), (9, "+")]
    rows = [
        {
            "problem": statement("sums", number),
            "answer": "1",
            "responses": [f"so \\boxed{{{ANSWERS[letter]}}}" for letter in word],
        }
        for number, word in given
    ]
    cut = {"response": rows[3]["responses"][0], "finish_reason": "length"}
    file = cli.file("given.jsonl", *rows[:3], rows[3] | {"responses": [cut]}, rows[4])
    measured = ("evaluate", "given", "--benchmarks", "sums")
    with working(cli):
        called = cli(*measured, "--responses", file, "--json")
    assert called.code == 0, called
    assert "sums: 2 problems have no response and count as not solved" in called.err
    assert "1 responses belong to no problem of these benchmarks" in called.err
    (found,) = json.loads(called.out)["policies"][0]["benchmarks"]
    values = [1 / 2, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert (found["accuracy"], found["standard_error"]) == (
        pytest.approx(sum(values) / 6), pytest.approx(error_of(values)),
    )  # fmt: skip
    assert (found["drawn"], found["unreadable"], found["left_out"], found["decoding"]) == (5, 1, 1, None)
    assert (found["mean_tokens"], found["truncated_share"]) == (
        None,
        1.0,
    )  # of the one that says how it ended
    assert cli.json(*measured, "--responses", file) == json.loads(called.out)
    shown = f"{sum(values) / 6:.3f} ± {error_of(values):.3f}"
    said = cli.ok(*measured, "--format", "markdown")
    assert f"| sums | 6 | given responses | {shown} |" in said
    assert (
        "sums: 1 problems were left out and count as not solved, for example: no response was given" in said
    )

    cli.ok("models", "add", "twin", DEMO)
    message = cli.refused("evaluate", "twin", "--benchmarks", "sums", "--responses", file)
    assert message == f"'twin' is a policy ({DEMO}); give the responses another name"
    other = cli.file("other.jsonl", *rows[:3])
    assert "'given' stands for other responses" in cli.refused(*measured, "--responses", other)
    add_dataset(cli.database, GREEDY_A, "more")
    unmeasured = cli.refused("evaluate", "given", "--benchmarks", "more")
    assert "there are none for more; import them: hsstar evaluate given --responses FILE" in unmeasured


def test_the_table_of_a_run_is_what_its_evaluations_say(cli: CommandLine) -> None:
    """A row per policy; a column per benchmark, the held-out problems last; the mean is of the benchmarks."""
    for dataset in ("more", "sums"):
        add_dataset(cli.database, GREEDY_A, dataset)
    evaluation = {"dataset": HELDOUT, "benchmarks": ["sums", "more"]}
    with cli.database.begin() as connection:
        add_problems(connection, 12)
        add_problems(connection, 5, HELDOUT)
        problems = {"dataset": "train", "per_iteration": 12}
        recipe = make_recipe(sampling={"n": 4, "n_p": 2}, evaluation=evaluation, problems=problems)
        add_run(connection, recipe, "r", cli.checkpoint)
    assert "run 'r' has no evaluation" in cli.refused("report", "r")
    with working(cli):
        cli.ok("iterate", "r", "--watch")
    rows = list(csv.DictReader(io.StringIO(cli.ok("report", "r", "--format", "csv"))))
    assert [(row["iteration"], row["model"]) for row in rows] == [("0", "M0"), ("1", "r-M1")]
    for row in rows:
        values = {}
        for dataset in ("sums", "more", HELDOUT):
            outcomes = [float(correct) for (correct,) in cli.rows(f"""
                SELECT avg(CASE WHEN verdict = 'correct' THEN 1 ELSE 0 END)
                FROM rounds JOIN evaluations ON evaluations.round_id = rounds.id
                JOIN round_problems ON round_problems.round_id = rounds.id
                JOIN problems ON problems.id = problem_id
                JOIN datasets ON datasets.id = problems.dataset_id
                LEFT JOIN samples ON samples.round_id = rounds.id AND samples.problem_id = problems.id
                WHERE rounds.number = {row["iteration"]} AND datasets.name = '{dataset}'
                GROUP BY problems.id
            """)]  # fmt: skip
            values[dataset] = statistics.fmean(outcomes)
            assert float(row[dataset]) == pytest.approx(values[dataset])
            assert float(row[f"{dataset}_standard_error"]) == pytest.approx(error_of(outcomes))
        assert float(row["mean"]) == pytest.approx((values["sums"] + values["more"]) / 2)
    shown = cli.ok("report", "r", "--format", "markdown").splitlines()
    assert shown[0] == "**Run r**"
    assert shown[2] == f"|  | policy | more | sums | {HELDOUT} | mean |"
    for line, row in zip(shown[4:], rows, strict=True):
        cells = [f"{float(row[name]):.3f} ± {float(row[f'{name}_standard_error']):.3f}"
                 for name in ("more", "sums", HELDOUT)]  # fmt: skip
        number, model, mean = row["iteration"], row["model"], float(row["mean"])
        assert line == f"| M_{number} | {model} | {' | '.join(cells)} | {mean:.3f} |"
