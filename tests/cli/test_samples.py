"""Responses that others have drawn become the pre-samples of a run, once, and are judged and paired here."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsstar.commands.samples import import_samples
from hsstar.data.samples import SampleFiles
from tests.cli.conftest import CommandLine
from tests.store.driver import call
from tests.store.factory import add_run, make_recipe

CASES = Path(__file__).parents[1] / "unit" / "field_files"
STATEMENTS = "SELECT statement, reference_answer FROM problems JOIN datasets ON datasets.id = dataset_id "
RESPONSES = """
    SELECT statement, slot, response, finish_reason
    FROM samples JOIN sample_responses ON sample_id = samples.id JOIN problems ON problems.id = problem_id
    ORDER BY problem_id, slot
"""


def has_run(cli: CommandLine, name: str = "mine", **sections: Any) -> None:
    """A run of two samples a problem, without rewards and without training."""
    plain: dict[str, Any] = {
        "sampling": {"n": 2, "n_p": 2},
        "reward": {"model": "none"},
        "difficulty": {"signal": "accuracy"},
        "pairs": {"rule": "random"},
        "training": {"objective": "none"},
    }
    recipe = make_recipe(**plain | sections)
    call(cli.database, add_run, recipe, name, cli.checkpoint)


def samples(cli: CommandLine, file: Path | str, *options: str) -> Any:
    return cli("samples", "import", str(file), "--run", "mine", "--dataset", "given", *options)


def test_a_file_of_samples_is_taken_into_a_run_once(cli: CommandLine) -> None:
    has_run(cli)
    called = samples(cli, CASES / "samp_rlhflow.jsonl")
    assert called.out.startswith(
        "iteration 0 of mine: 2 problems, 4 samples, 4 responses beyond n_p left out"
    )
    cli.worker().work()
    rows = [json.loads(line) for line in (CASES / "samp_rlhflow.jsonl").open()]
    again = cli.file(
        "again.jsonl",
        *(
            {"query": row["prompt"], "ref_ans": row["gt"], "resp": text}
            for row in rows
            for text in row["responses"]
        ),
    )
    for file in (CASES / "samp_rlhflow.jsonl", again):
        assert (
            f"{file}: these samples are those of iteration 0 of 'mine' already (imported from "
            "samp_rlhflow.jsonl); a run takes samples once"
        ) in samples(cli, file).err
    assert cli.rows("SELECT count(*) FROM rounds") == [(1,)]
    assert samples(cli, CASES / "samp_nemo.jsonl").code == 0  # other responses
    assert cli.rows("SELECT imported FROM iterations ORDER BY round_id") == [
        ("samp_rlhflow.jsonl",), ("samp_nemo.jsonl",)
    ]  # fmt: skip


def test_the_dataset_tells_what_a_batch_of_requests_does_not(cli: CommandLine) -> None:
    has_run(cli)
    problems = [{"problem": f"{n}+1=?", "answer": str(n + 1), "id": f"p{n}"} for n in range(3)]
    cli.ok("problems", "import", cli.file("problems.jsonl", *problems), "--dataset", "given")
    body = {"choices": [{"message": {"content": "\\boxed{2}"}, "finish_reason": "stop"}] * 2}
    rows = [{"custom_id": f"p{n}", "response": {"body": body}, "error": None} for n in (2, 1)]
    called = samples(cli, cli.file("out.jsonl", *rows))
    assert (called.code, called.err) == (0, "references: 2 readable (as 3)\n")
    assert cli.rows(RESPONSES) == [
        (f"{n}+1=?", slot, "\\boxed{2}", "stop") for n in (1, 2) for slot in (0, 1)
    ]
    cli.worker().work()
    unknown = samples(cli, cli.file("other.jsonl", rows[0] | {"custom_id": "p7"})).err
    assert (
        "other.jsonl:1: 'p7' names no problem of dataset 'given'; names are those of the problems' id"
        in unknown
    )
    bare = samples(cli, cli.file("bare.jsonl", {"input": "0+1=?", "output": "\\boxed{1}"}))
    assert bare.code == 0
    lost = cli.file("lost.jsonl", {"input": "5+5=?", "output": "\\boxed{1}"})
    assert "no reference answer for '5+5=?', nor in dataset 'given'" in samples(cli, lost).err


def test_references_that_differ_are_reported(cli: CommandLine) -> None:
    has_run(cli)
    called = samples(cli, CASES / "samp_conflict.jsonl")
    assert called.code == 0
    assert called.err.splitlines() == [
        "references: 1 readable (as 12)",
        "1 problems have several reference answers; the first counts:",
        "  '3*2*2=?': 12 counts, not 13",
    ]
    assert cli.rows(STATEMENTS) == [("3*2*2=?", "12")]


def test_columns_are_mapped(cli: CommandLine) -> None:
    has_run(cli)
    file = cli.file("odd.jsonl", {"task": {"text": "1+1=?"}, "truth": 2, "tries": [{"said": "\\boxed{2}"}]})
    assert "expected rows with a problem and response" in samples(cli, file).err
    assert (
        "--map lacks response=PATH or responses=PATH"
        in samples(cli, file, "--map", "statement=task.text").err
    )
    options = ("statement=task.text", "reference=truth", "response=tries.0.said")
    called = samples(cli, file, *(part for option in options for part in ("--map", option)))
    assert called.out.startswith("iteration 0 of mine: 1 problems, 1 samples")


@pytest.mark.parametrize(("cut", "pairs"), [("leave-out", 0), ("keep", 1)])
def test_a_cut_response_is_chosen_only_if_the_recipe_says_so(cli: CommandLine, cut: str, pairs: int) -> None:
    has_run(cli, pairs={"rule": "random", "cut": cut})
    assert samples(cli, CASES / "samp_truncated_chosen.jsonl").code == 0
    cli.worker().work()
    judged = cli.rows("SELECT verdict, finish_reason FROM samples ORDER BY slot")
    assert judged == [("correct", "length"), ("incorrect", "stop")]
    assert cli.rows("SELECT count(*) FROM preference_pairs") == [(pairs,)]


def test_importing_reads_no_more_than_the_file(cli: CommandLine) -> None:
    has_run(cli)
    from hsstar.store.runs import find_run

    run = call(cli.database, find_run, "mine")
    report = import_samples(cli.database, run, SampleFiles([CASES / "openr1.jsonl"]), "given")
    assert (report.iteration, report.conflicts) == (0, [])
    assert ("What is 2+3?", "5") in cli.rows(STATEMENTS)


def test_a_reference_in_a_sentence_is_its_value_and_no_conflict(cli: CommandLine) -> None:
    has_run(cli)
    said = ["so the total is 12 bolts", "12", "The total is 24/2 bolts.", "13"]
    rows = [{"query": "How many?", "ref_ans": text, "resp": "\\boxed{12}"} for text in said]
    called = samples(cli, cli.file("said.jsonl", *rows))
    assert called.err.splitlines() == [
        "references: 1 readable (as 12)",
        "1 of them stood in a sentence, and are its one value",
        "1 problems have several reference answers; the first counts:",
        "  'How many?': so the total is 12 bolts counts, not 13",
    ]
    assert cli.rows(STATEMENTS) == [("How many?", "12")]
    cli.worker().work()
    assert cli.rows("SELECT DISTINCT verdict FROM samples") == [("correct",)]


def test_rows_that_cannot_be_used_are_left_out_on_demand(cli: CommandLine) -> None:
    has_run(cli)
    good = {"query": "1+1=?", "ref_ans": "2", "resp": "\\boxed{2}"}
    rows = [good, good | {"resp": None}, {"query": "2+2=?", "resp": "4"}, good | {"resp": "\\boxed{3}"}]
    file = cli.file("rows.jsonl", *rows)
    assert "rows.jsonl:2: expected a response as text or object, found null" in samples(cli, file).err
    assert "rows.jsonl:3: no reference answer for '2+2=?'" in samples(cli, file, "--skip-bad=1").err
    assert cli.rows("SELECT 1 FROM rounds") == []
    called = samples(cli, file, "--skip-bad")
    assert called.out.startswith("iteration 0 of mine: 1 problems, 2 samples")
    assert called.err.splitlines()[0] == "2 rows left out:"
    assert [line.partition("rows.jsonl")[2][:3] for line in called.err.splitlines()[1:3]] == [":2:", ":3:"]
    empty = samples(cli, cli.file("empty.jsonl", rows[1], rows[1]), "--skip-bad")
    assert (empty.code, empty.err.strip()) == (1, "hsstar: every row was left out; nothing was imported")


def test_samples_whose_references_cannot_be_used_are_refused_unless_allowed(cli: CommandLine) -> None:
    has_run(cli)
    rows = [{"query": f"{n}+1=?", "ref_ans": "\\frac{1", "resp": "\\boxed{2}"} for n in range(3)]
    file = cli.file("rows.jsonl", *rows)
    refused = samples(cli, file)
    assert "3 of 3 reference answers cannot be used, such as" in refused.err
    assert refused.code == 1
    assert cli.rows("SELECT 1 FROM rounds UNION ALL SELECT 1 FROM datasets") == []
    allowed = samples(cli, file, "--allow-unreadable")
    assert allowed.out.startswith("iteration 0 of mine: 3 problems, 3 samples")
    assert cli.rows("SELECT count(*) FROM problems WHERE reference_readable") == [(0,)]


def test_the_reference_of_the_dataset_counts_though_it_has_none(cli: CommandLine) -> None:
    has_run(cli)
    proof = cli.file(
        "p.jsonl", {"problem": "Prove it.", "answer": "proof"}, {"problem": "1+1", "answer": "2"}
    )
    cli.ok("problems", "import", proof, "--dataset", "given")
    rows = [{"query": text, "ref_ans": "2", "resp": "\\boxed{2}"} for text in ("Prove it.", "1+1")]
    called = samples(cli, cli.file("rows.jsonl", *rows))
    assert called.err.splitlines()[-1] == "  'Prove it.': no answer counts, not 2"
    assert "1 reference answers cannot be used" in called.err


def test_the_shards_of_a_folder_are_one_import(cli: CommandLine) -> None:
    has_run(cli)
    (cli.folder / "out").mkdir()
    for n in range(2):
        row = {"query": "1+1=?", "ref_ans": "2", "resp": f"\\boxed{{{n}}}"}
        cli.file(f"out/part-{n}.jsonl", row)
    called = samples(cli, cli.folder / "out")
    assert called.out.startswith("iteration 0 of mine: 1 problems, 2 samples")
    assert cli.rows("SELECT imported FROM iterations") == [("part-0.jsonl and 1 more",)]
