"""Problems, models, runs and responses come in as the options say, or a line says what is wrong."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.benchmarks import BENCHMARKS
from hsstar.domain.lifecycle import JobKind
from hsstar.store import migrate, rounds
from hsstar.store.database import Database
from tests.cli.conftest import Called, CommandLine, enqueue
from tests.store.factory import add_problems, add_run
from tests.waiting import hear_signals, wait_for

DEMO = "builtin:demo-policy"
GSM8K = {"question": "1+1=?", "answer": "that is\n#### 2"}
TRAIN, HELDOUT = "demo-train", "demo-heldout"
FIELD_FILES = Path(__file__).parents[1] / "unit" / "field_files"
REFUSED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "refusals.json").read_text())
"""`command`, the `message` that it ends with, its exit `code` (1), the `environment`, the content of
`file.jsonl`, a replacement in the demo's recipe, `recipe.toml`, and a package that it `needs`."""


def has_datasets(cli: CommandLine) -> None:
    """The datasets of the demo's recipe, eight problems each."""
    with cli.database.begin() as connection:
        for dataset in (TRAIN, HELDOUT):
            add_problems(connection, 8, dataset)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: " ".join(case["command"]))
def test_what_is_wrong_is_refused_in_one_line_and_writes_nothing(
    alone: CommandLine, shared: Database, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "needs" in case:
        pytest.importorskip(case["needs"])
    alone.use(shared)
    if not alone.rows("SELECT 1 FROM datasets"):
        has_datasets(alone)
        with shared.begin() as connection:
            add_problems(connection, 6, "sums")
    for variable, value in case.get("environment", {}).items():
        monkeypatch.setenv(variable, value)
    if "file" in case:
        (alone.folder / "file.jsonl").write_text(case["file"])
    if "recipe" in case:
        alone.recipe(tuple(case["recipe"]))
    called = alone(*case["command"])
    assert (called.code, called.out) == (case.get("code", 1), ""), called
    lines = called.err.splitlines()
    assert case["message"] in lines[-1]
    assert lines[-1].startswith("hsstar: " if called.code == 1 else "Error: ")
    assert called.code == 2 or len(lines) == 1
    counted = "(SELECT count(*) FROM runs), (SELECT count(*) FROM rounds), (SELECT count(*) FROM models)"
    assert alone.rows(f"SELECT count(*), {counted} FROM datasets") == [(3, 0, 0, 0)]


def test_problems_are_imported_into_the_dataset_that_is_named(cli: CommandLine) -> None:
    file = cli.file("p.jsonl", GSM8K, GSM8K, {"question": "2+2=?", "answer": "#### ???"})
    called = cli("problems", "import", file, "--dataset", "mine", "--format", "gsm8k")
    said = (
        "references: 2 readable (as 2), 1 unreadable (as no answer)\n"
        "1 reference answers cannot be used; their problems are left out:\n  problem 3: no answer\n"
    )
    assert called == Called(0, "mine: 2 problems imported, 1 duplicates left out (read 3)\n", said)
    assert cli.json("problems", "list") == [{"dataset": "mine", "problems": 2, "unreadable_references": 1}]
    live = cli("problems", "import", file, "--dataset", "mine", terminal=True)
    assert live.out == "mine: 0 problems imported, 3 duplicates left out (read 3)\n"
    assert "3 problems" in live.err
    plain = cli.file("q.jsonl", {"problem": "3+3=?", "answer": "6", "level": "Level 2", "subject": "sums"})
    cli.ok("problems", "import", plain, "--dataset", "mine", "--format", "math")
    columns = "statement, reference_answer, reference_readable, level, subject"
    assert cli.rows(f"SELECT {columns} FROM problems ORDER BY id") == [
        ("1+1=?", "2", True, None, None),
        ("2+2=?", "", False, None, None),
        ("3+3=?", "6", True, "2", "sums"),
    ]


def test_files_from_the_field_are_imported_with_what_is_wrong_about_them(cli: CommandLine) -> None:
    called = cli("problems", "import", str(FIELD_FILES / "numina15.jsonl"), "--dataset", "mine")
    assert called.out == "mine: 8 problems imported, 0 duplicates left out (read 8)\n"
    assert called.err.splitlines() == [
        "layout: numina (8)",
        "references: 5 readable (as 5), 3 unreadable (as no answer)",
        "3 reference answers cannot be used; their problems are left out:",
        *(f"  problem {number}: no answer" for number in (4, 6, 7)),
        "the source speaks against 2 problems (question_type: proof); --skip-doubtful leaves them out",
    ]
    several = [str(FIELD_FILES / name) for name in ("MATH", "*.gz", "tab.tsv")]
    assert cli.ok("problems", "import", *several, "--dataset", "more").startswith(
        "more: 3 problems imported, 2"
    )
    skipping = ("problems", "import", several[-1], str(FIELD_FILES / "numina15.jsonl"), "--skip-doubtful")
    assert cli.ok(*skipping, "--dataset", "valid").startswith("valid: 6 problems imported, 1 dup")


def test_a_file_without_references_is_refused_unless_it_is_wanted(cli: CommandLine) -> None:
    sentence = {"problem": "c?", "answer": "The curve that was drawn above."}
    readable, proof = {"problem": "b?", "answer": "12"}, {"problem": "a?", "answer": "proof"}
    file = cli.file("p.jsonl", proof, readable, sentence)
    command = ("problems", "import", file, "--dataset", "mine")
    message = "2 of 3 reference answers cannot be used, such as 'The curve that was drawn above.'"
    assert cli.refused(*command).startswith(message)
    assert cli.rows("SELECT 1 FROM datasets") == []
    cli.ok(*command, "--allow-unreadable")
    assert cli.json("problems", "list") == [{"dataset": "mine", "problems": 3, "unreadable_references": 2}]


def test_nothing_is_created_where_every_row_is_left_out(cli: CommandLine) -> None:
    proof = {"problem": "a?", "solution": "w", "answer": "1", "source": "s", "question_type": "proof"}
    command = ("problems", "import", cli.file("p.jsonl", proof), "--dataset", "mine", "--skip-doubtful")
    assert cli.refused(*command) == "every row was left out; nothing was imported"
    assert cli.rows("SELECT 1 FROM datasets") == []


def test_a_sentence_is_imported_as_its_value(cli: CommandLine) -> None:
    file = cli.file("p.jsonl", {"problem": "How many?", "answer": "so the total is 12 bolts"})
    called = cli("problems", "import", file, "--dataset", "mine")
    assert (
        "references: 1 readable (as 12)\n1 of them stood in a sentence, and are its one value" in called.err
    )
    assert cli.rows("SELECT reference_answer, reference_readable FROM problems") == [("12", True)]


def test_equal_statements_with_different_references_are_told_and_replaced_on_demand(cli: CommandLine) -> None:
    called = cli("problems", "import", str(FIELD_FILES / "dupids.jsonl"), "--dataset", "mine")
    assert called.out == "mine: 2 problems imported, 2 duplicates left out (read 4)\n"
    assert called.err.endswith(
        "1 equal statements have another reference answer; the first one stays:\n  2+2=?: 4 and 5\n"
    )
    rows = [{"problem": "2+2=?", "answer": "8/2"}, {"problem": "2+3=?", "answer": "6"}]
    command = ("problems", "import", cli.file("p.jsonl", *rows), "--dataset", "mine")
    assert cli(*command).err.endswith(
        "1 problems of mine have another reference answer there, which stays\n"
        "  2+3=?: 5, here 6\ntake those of the file: --replace\n"
    )
    stored = "SELECT statement, reference_answer FROM problems ORDER BY id"
    assert cli.rows(stored) == [("2+2=?", "4"), ("2+3=?", "5")]
    with cli.database.begin() as connection:
        connection.execute(text("UPDATE datasets SET name = 'train'"))
        run = add_run(connection, name="judged")
        rounds.add_iterations(connection, run, [0])
        [iteration] = rounds.list_iterations(connection, run.id)
        problem = connection.execute(text("SELECT max(id) FROM problems")).scalar_one()
        rounds.assign_problems(connection, iteration.round.id, [problem], 1)
    replaced = cli(*command[:-1], "train", "--replace")
    assert replaced.err.endswith(
        "2 reference answers replaced\njudged by the old ones: judged; judge again: hsstar reverify RUN\n"
    )
    assert cli.rows(stored) == [("2+2=?", "8/2"), ("2+3=?", "6")]


def test_columns_are_mapped_and_shown_before_anything_is_imported(cli: CommandLine) -> None:
    file = cli.file("p.jsonl", {"q": {"text": "1+1?"}, "a": ["2"], "d": 3}, {"q": {}, "a": ["3"]})
    mapped = ("--map", "statement=q.text", "--map", "reference=a.0", "--map", "level=d")
    command = ("problems", "import", file, "--dataset", "mine", *mapped)
    assert "p.jsonl:2: no value under q.text for statement, found keys a, q" in cli.refused(*command)
    shown = cli.ok(*command, "--show", "1")
    assert shown == "problem 1\n  statement: 1+1?\n  reference: 2\n  level: 3\n"
    assert cli.rows("SELECT 1 FROM datasets") == []
    called = cli(*command, "--skip-bad")
    assert called.out == "mine: 1 problems imported, 0 duplicates left out (read 1)\n"
    assert "1 rows left out:\n  " in called.err
    assert "p.jsonl:2: no value under q.text" in called.err
    worse = cli.file("q.jsonl", {"q": 1}, {"q": 2}, {"q": {"text": "1+1?"}, "a": ["2"]})
    limited = ("problems", "import", worse, "--dataset", "mine", *mapped, "--skip-bad=1")
    assert "q.jsonl:2: no value under q.text" in (refusal := cli.refused(*limited))
    assert refusal.endswith("; more than 1 rows cannot be used")


def test_a_dataset_is_deleted_unless_samples_would_go_with_it(cli: CommandLine) -> None:
    has_datasets(cli)
    cli.ok("runs", "create", "--recipe", cli.recipe(), "--name", "mine")
    named = "the recipes of mine name dataset 'demo-heldout', though no sample belongs to it yet; --force"
    assert cli.refused("problems", "delete", HELDOUT, "--yes").startswith(named)
    would = cli.ok("problems", "delete", HELDOUT, "--force", "--dry-run")
    assert would == "demo-heldout: 8 problems would be deleted\n"
    assert cli.ok("problems", "delete", HELDOUT, "--force", "--yes") == "demo-heldout: 8 problems deleted\n"
    assert [row["dataset"] for row in cli.json("problems", "list")] == [TRAIN]
    assert "there is no dataset 'demo-heldout'" in cli.refused("problems", "delete", HELDOUT)
    with cli.database.begin() as connection:
        add_problems(connection, 8, HELDOUT)
    cli.ok("iterate", "mine")
    for dataset in (TRAIN, HELDOUT):
        refusal = cli.refused("problems", "delete", dataset, "--yes", "--force")
        assert refusal.startswith(
            f"dataset '{dataset}' is used by mine, whose samples belong to its problems"
        )
    assert len(cli.json("problems", "list")) == 2


@pytest.mark.slow
def test_problems_made_on_demand_are_imported_like_those_of_a_file(cli: CommandLine) -> None:
    pytest.importorskip("reasoning_gym")
    name = "gym:gsm_symbolic?size=40&seed=7&templates=0-79"
    (said,) = cli.ok("problems", "import", name, "--dataset", "words").splitlines()
    assert said == "words: 36 problems imported, 0 duplicates left out (read 36)"
    again = cli.ok("problems", "import", name, "--dataset", "words")
    assert again == "words: 0 problems imported, 36 duplicates left out (read 36)\n"
    columns = "reference_answer, reference_readable, subject, source_id"
    assert cli.rows(f"SELECT {columns} FROM problems ORDER BY id")[1] == (
        "57",
        True,
        "gsm_symbolic/12",
        "gsm_symbolic-7-1",
    )
    unworked = "SELECT 1 FROM problems WHERE NOT reference_readable OR solution NOT LIKE '%####%'"
    assert cli.rows(unworked) == []


def test_a_run_has_the_recipe_with_the_name_and_seed_of_the_options(cli: CommandLine) -> None:
    has_datasets(cli)
    created = cli.ok("runs", "create", "--recipe", cli.recipe(), "--name", "mine", "--seed", "7")
    assert created == "run mine created; start it: hsstar iterate mine --watch\n"
    cli.ok("runs", "create", "--recipe", cli.recipe())
    stored = cli.rows("SELECT name, recipe->'seed', recipe->'name' FROM runs ORDER BY id")
    assert stored == [("mine", 7, "mine"), ("demo", 0, "demo")]
    assert cli.refused("runs", "create", "--recipe", cli.recipe()).startswith("there is already a run 'demo'")
    assert "8 usable problems" in cli.refused("iterate", "mine", "--iterations", "3")
    said = "mine: iteration 0, 1 enqueued\nfollow them: hsstar status mine --watch\n"
    assert cli.ok("iterate", "mine", "--iterations", "2") == said
    assert "still has iterations under way (0, 1)" in cli.refused("iterate", "mine")
    iterations = "SELECT runs.name, number FROM rounds JOIN runs ON runs.id = run_id ORDER BY number"
    assert cli.rows(iterations) == [("mine", 0), ("mine", 1)]


def test_overlaps_with_what_is_measured_are_told_and_left_out_on_demand(cli: CommandLine) -> None:
    statement = "How many apples are left in the basket after the seven children have taken two of them each?"
    file = cli.file("p.jsonl", *({"problem": f"{statement} {n}", "answer": str(n)} for n in range(4)))
    for dataset in (TRAIN, HELDOUT):
        cli.ok("problems", "import", file, "--dataset", dataset)
    told = cli("runs", "create", "--recipe", cli.recipe()).err
    assert told.startswith("4 of 4 problems of demo-train overlap demo-heldout: 4 equal")
    assert "iterations take them all the same" in told
    excluding = cli.recipe(("[policy]", 'overlaps = "exclude"\n[policy]'))
    message = cli.refused("runs", "create", "--recipe", excluding, "--name", "other")
    assert "holds 0 usable problems that the run has not taken yet and that overlap no evaluation" in message


def test_policies_are_added_leave_again_and_are_told_apart_by_their_weights(cli: CommandLine) -> None:
    assert cli.ok("models", "add", "mine", DEMO) == f"mine: {DEMO}\n"
    assert cli.json("models", "list") == [{"model": "mine", "trained_from": None, "location": DEMO}]
    target = cli.folder / "taken"
    assert cli.ok("models", "export", "mine", str(target)) == f"mine: {target}\n"
    assert fingerprint(target) == fingerprint(DEMO)
    assert "not an empty folder" in cli.refused("models", "export", "mine", str(target))
    (cli.folder / "empty").mkdir()
    cli.ok("models", "export", "mine", "empty")
    has_datasets(cli)
    recipe = cli.recipe((f'model = "{DEMO}"', f'model = "{target}"'))
    cli.ok("runs", "create", "--recipe", recipe)
    weights = target / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for run in ("second", "third"):
        cli.ok("runs", "create", "--recipe", recipe, "--name", run)
    names = [row["model"] for row in cli.json("models", "list")]
    assert names == ["mine", str(target), f"{target}@{fingerprint(target)[:8]}"]


def test_responses_become_the_pre_samples_of_the_run_that_is_named(cli: CommandLine) -> None:
    enqueue(cli, "other")
    has_datasets(cli)
    cli.ok("runs", "create", "--recipe", cli.recipe())
    several = {"problem": "1+1=?", "answer": "2", "responses": [f"\\boxed{{{n}}}" for n in range(5)]}
    last = {"response": "\\boxed{3}", "finish_reason": "length", "cumulative_logprob": -1.5}
    file = cli.file("given.jsonl", several, {"problem": "1+2=?", "answer": "3", "responses": [last]})
    assert cli.ok("samples", "import", file, "--run", "demo", "--dataset", "elsewhere") == (
        "iteration 0 of demo: 2 problems, 4 samples, 2 responses beyond n_p left out\n"
        "watch it: hsstar status demo\n"
    )
    stored = cli.rows("""
        SELECT runs.name, number, datasets.name, samples.worker,
            statement, slot, response, finish_reason, cumulative_logprob
        FROM samples JOIN sample_responses ON sample_id = samples.id JOIN rounds ON rounds.id = round_id
        JOIN runs ON runs.id = run_id JOIN problems ON problems.id = problem_id
        JOIN datasets ON datasets.id = dataset_id ORDER BY problem_id, slot
    """)
    assert {row[:4] for row in stored} == {("demo", 0, "elsewhere", "import:given.jsonl")}
    assert [row[4:] for row in stored] == [
        *(("1+1=?", slot, f"\\boxed{{{slot}}}", None, None) for slot in range(3)),
        ("1+2=?", 0, "\\boxed{3}", "length", -1.5),
    ]
    assert "are those of iteration 0 of 'demo' already" in cli.refused(
        "samples", "import", file, "--run", "demo"
    )
    other = cli.file("other.jsonl", {"problem": "1+2=?", "answer": "3", "responses": ["\\boxed{4}"]})
    assert "still has iterations under way" in cli.refused("samples", "import", other, "--run", "demo")
    cli.worker().work({JobKind.VERIFY})
    assert cli.rows("SELECT verdict FROM samples ORDER BY problem_id, slot") == [
        ("incorrect",), ("incorrect",), ("correct",), ("correct",)
    ]  # fmt: skip


def test_benchmarks_are_imported_whole_from_the_folder_that_is_named(cli: CommandLine) -> None:
    rows: list[Any] = [{"problem": f"{n}+1=?", "answer": str(n + 1)} for n in range(40)]
    cli.file("amc23.jsonl", *rows)
    called = cli("benchmarks", "import", "amc23, amc23", "--data", str(cli.folder), terminal=True)
    assert (called.code, called.err) == (0, "\r40 references read amc23: 40 problems\n")
    listed = {row.pop("benchmark"): row for row in cli.json("benchmarks", "list")}
    assert list(listed) == list(BENCHMARKS)
    assert listed["amc23"] == {
        "title": "AMC 2023", "problems": 40, "decoding": BENCHMARKS["amc23"].decoding.shown,
        "imported": True, "unreadable_references": 0
    }  # fmt: skip
    assert "2048 tokens  yes " in cli.ok("benchmarks", "list")
    assert (listed["gsm8k"]["imported"], listed["gsm8k"]["unreadable_references"]) == (False, None)
    cli.file("amc23.jsonl", *rows[:8])
    message = cli.refused("benchmarks", "import", "amc23", "--data", str(cli.folder))
    assert "amc23.jsonl holds 8 problems, and AMC 2023 has 40" in message
    cli.file("amc23.jsonl", *rows[1:], {"problem": "9+9=?", "answer": "18"})
    assert "has other statements" in cli.refused("benchmarks", "import", "amc23", "--data", str(cli.folder))


def test_a_prompt_is_shown_as_the_policy_sees_it(cli: CommandLine) -> None:
    has_datasets(cli)
    other = cli.file("p.jsonl", {"problem": "what is one?", "answer": "1"})
    cli.ok("problems", "import", other, "--dataset", "elsewhere")
    options = ((), ("--dataset", "elsewhere"), ("--problem", "1+2*3=?"))
    shown = [cli("prompts", "show", cli.recipe(), *given) for given in options]
    assert [said.out for said in shown] == ["demo-train problem 0\n", "what is one?\n", "1+2*3=?\n"]
    assert all(said.err.splitlines()[0].endswith(" tokens") for said in shown)
    lengths = [said.err.splitlines()[1:] for said in shown]
    assert lengths[0] == ["8 prompts of demo-train: 21 to 21 tokens, median 21, nine of ten at most 21"]
    assert (lengths[1][0].partition(":")[0], lengths[2]) == ("1 prompt of elsewhere", [])
    step = cli.ok("prompts", "show", cli.recipe(("bare", "qwen25-step-cot")), "--problem", "1+2*3=?")
    assert "1+2*3=?" in step != "1+2*3=?\n"
    assert [row["template"] for row in cli.json("prompts", "list")] == ["qwen25-step-cot", "bare", "chat"]


def test_the_schema_goes_up_down_and_tells_where_it_is(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = migrate.head()
    assert cli.ok("db", "upgrade") == f"schema at {head} already\n"
    assert cli.ok("db", "current") == f"{head} (this hsstar: {head})\n"
    assert cli.ok("db", "url").startswith("postgresql://")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert cli("db", "downgrade", "base").code == 130
    assert cli.ok("db", "downgrade", "base", "--yes") == "schema at none\n"
    assert "hsstar db upgrade" in cli.refused("status")
    assert cli.ok("db", "upgrade") == f"schema at {head} (was: none)\n"


@pytest.mark.parametrize(
    ("part", "instead", "expected"),
    [
        (".*", "postgresql://somebody:secret@127.0.0.1:9/nothing", "cannot reach the database"),
        ("/test_", "/no_such_thing_", "no_such_thing"),
        ("//hsstar@", "//stranger:pw@", "refuses the login"),
        (".*", "mysql://localhost/x", "HSSTAR_DATABASE_URL"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, part: str, instead: str, expected: str
) -> None:
    url = re.sub(part, instead, cli.ok("db", "url").strip(), count=1)
    monkeypatch.setenv("HSSTAR_DATABASE_URL", url)
    message = cli.refused("runs", "list")
    assert expected in message
    assert "secret" not in message and "pw@" not in message


def test_problems_of_the_demo_are_written_to_a_file(alone: CommandLine) -> None:
    file = alone.folder / "demo.jsonl"

    def written(*options: str) -> list[str]:
        called = alone("problems", "demo", "--output", str(file), "--force", "--count", "60", *options)
        assert (called.code, called.err) == (0, f"60 problems written to {file}\n")
        return file.read_text().splitlines()

    training, held_out = written(), written("--held-out")
    again, other = written("--seed", "0"), written("--seed", "1")
    assert len(set(training)) == len(set(held_out)) == 60
    assert not set(training) & set(held_out)
    assert (again == training, other == training) == (True, False)
    assert json.loads(training[0]).keys() == {"question", "answer"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [("problems",), ("samples", "--run", "demo")])
def test_an_interrupted_import_leaves_no_rows_and_no_process(
    cli: CommandLine, command: tuple[str, ...]
) -> None:
    has_datasets(cli)
    cli.ok("runs", "create", "--recipe", cli.recipe())
    before = cli.rows("SELECT count(*) FROM problems")
    slow = "\\int_0^1 " * 60  # half a minute of algebra each
    rows = [{"query": f"{n}?", "ref_ans": f"{slow} {n} dx", "resp": "1"} for n in range(64)]
    file = cli.file("slow.jsonl", *rows)
    kind, *options = command
    arguments = [kind, "import", file, "--dataset", "interrupted", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "hsstar.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )

    def checking() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children(recursive=True)
        return children if len(children) > 1 else []

    processes = wait_for(checking)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error.split()) == (130, "", ["hsstar:", "interrupted"])
    wait_for(lambda: not any(child.is_running() for child in processes))
    assert cli.rows("SELECT count(*) FROM problems") == before
    assert cli.rows("SELECT 1 FROM datasets WHERE name = 'interrupted' UNION ALL SELECT 1 FROM rounds") == []
