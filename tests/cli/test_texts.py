"""Texts of others come out as they are: no markup, no control of the terminal, in every command."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hsstar.cli.text import visible
from hsstar.cli.views import output, progress
from hsstar.domain.lifecycle import JobKind
from hsstar.store.queue import jobs, workers
from tests.cli.conftest import CommandLine, enqueue
from tests.store.factory import add_worker, claim

HOSTILE = (
    "[/INST] \\left[a,b\\right] [red]x[/red] :smile: \x1b[31m\x07\x9b31m\r\x08\x7f\u202e\u2066\ufeff\ud800"
)
SHOWN = (
    "[/INST] \\left[a,b\\right] [red]x[/red] :smile: "
    "\\x1b[31m\\x07\\x9b31m\\x0d\\x08\\x7f\\u202e\\u2066\\ufeff\\ud800"
)
DANGEROUS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def test_what_a_terminal_obeys_is_escaped_and_the_rest_stays() -> None:
    assert visible(HOSTILE) == SHOWN
    for text in ("a\n\tb", "é漢字 ∀x∈ℝ", "👩\u200d👧", "می\u200cخواهم", "\\[x\\]", ""):
        assert visible(text) == text
    assert visible("\u2028") == "\\u2028"
    assert visible("\U000e0041") == "\\U000e0041"


STORED = HOSTILE.replace("\ud800", "")
"""Postgres stores no lone surrogate."""


@pytest.fixture
def hostile(cli: CommandLine) -> CommandLine:
    """A run whose problems, errors, workers and models are full of such text."""
    enqueue(cli)
    cli.worker(job_samples=6).work({JobKind.SAMPLE})
    with cli.database.begin() as connection:
        for change in (
            "UPDATE problems SET statement = %s || id",
            "UPDATE sample_responses SET response = %s || sample_id",
            "UPDATE models SET location = %s || id",
            "UPDATE datasets SET name = name || %s WHERE id > 1",
        ):
            connection.exec_driver_sql(change, (STORED,))
        add_worker(connection, f"worker{STORED}", host=STORED, gpu=STORED, version="0.1")
        workers.set_note(connection, f"worker{STORED}", STORED)
        for (job_id,) in connection.exec_driver_sql("SELECT id FROM jobs WHERE state = 'queued'").all():
            job = claim(connection, job_id)
            jobs.record_failure(connection, job, STORED, STORED, job.attempts, divisible=False)
    return cli


LISTS = """
status
status r --missing
jobs list r
workers
models list
problems list
runs list
report r
report r --lengths
sql TABLE problems
sql TABLE sample_responses
sql TABLE jobs
sql TABLE workers
"""


@pytest.mark.parametrize("shown_as", ["table", "markdown", "csv", "json"])
def test_no_list_obeys_the_texts_in_it(hostile: CommandLine, shown_as: str) -> None:
    seen = ""
    for line in LISTS.strip().splitlines():
        words = line.split(" ", 1 if line.startswith("sql") else -1)
        called = hostile(*words, "--format", shown_as)
        printed = called.out.replace("\r\n", "\n") if shown_as == "csv" else called.out
        found = DANGEROUS.findall(printed + called.err)
        assert shown_as == "csv" or found == [], (words, found)
        seen += called.out
    if shown_as == "json":
        statements = [row["statement"] for row in json.loads(hostile.ok("sql", "TABLE problems", "--json"))]
        assert all(statement.startswith(STORED) for statement in statements)
    elif shown_as == "csv":  # a file for programs: exactly what is stored
        text = io.StringIO(hostile.ok("sql", "TABLE problems", "--format", "csv"), newline="")
        assert all(row["statement"].startswith(STORED) for row in csv.DictReader(text))
    else:
        assert seen.count(visible(STORED)) > 20


def test_no_message_obeys_the_texts_in_it(hostile: CommandLine) -> None:
    for words in (
        ("status", "r"),
        ("status", "r", "--watch"),
        ("iterate", "r", "--watch"),
        ("runs", "show", "r"),
        ("sql", f"SELECT '{STORED}' AS \"{STORED}\""),
        ("sql", STORED),
        ("evaluate", STORED),
        ("status", STORED),
        ("report", STORED),
        ("plan", STORED),
        ("runs", "create", "--recipe", STORED),
        ("problems", "import", STORED, "--dataset", "x"),
        ("export", "pairs", STORED),
        ("verify", STORED),
        ("models", "add", "x", STORED),
        ("train", "dpo", "--data", STORED, "--model", STORED, "--output", "x"),
    ):
        called = hostile(*words)
        assert DANGEROUS.findall(called.out + called.err) == [], words
        assert "Traceback" not in called.err
    shown = hostile.ok("sql", f"SELECT '{STORED}' AS x").splitlines()
    assert [line.strip() for line in shown] == ["x", visible(STORED)]


def test_a_terminal_gets_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = output.PlainConsole(file=screen, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(output, "console", terminal)
    output.show([HOSTILE], [[HOSTILE]], HOSTILE)
    terminal.print(HOSTILE)
    assert [line.strip() for line in screen.getvalue().splitlines()] == [SHOWN] * 4


def test_output_that_is_not_utf_8_is_no_traceback(tmp_path: Path) -> None:
    program = "from hsstar.cli.main import _set_encoding; _set_encoding(); print('φ漢', end='')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode() == "φ漢"


def test_a_dumb_terminal_shows_the_progress_by_lines(
    hostile: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setenv("TERM", "dumb")
    terminal = output.PlainConsole(file=screen, force_terminal=True, width=200)
    monkeypatch.setattr(progress, "console", terminal)
    assert progress.Watch(hostile.database, "r").follow().state == "stuck"
    assert "iteration 0  pre-sampling" in screen.getvalue()


@pytest.mark.parametrize("command", [("export", "samples", "r"), ("problems", "demo")])
def test_a_file_is_replaced_only_if_so_asked(cli: CommandLine, command: tuple[str, ...]) -> None:
    enqueue(cli)
    file = cli.folder / "rows.jsonl"
    file.write_text("precious")
    message = cli.refused(*command, "--output", str(file))
    assert message == f"{file} is there already; give another file, or --force"
    assert file.read_text() == "precious"
    cli.ok(*command, "--output", str(file), "--force")
    assert file.read_text() != "precious"


def test_the_name_of_a_file_says_its_format(cli: CommandLine) -> None:
    enqueue(cli)
    cli.worker().work({JobKind.SAMPLE})
    cli.ok("export", "samples", "r", "--output", "rows.parquet")
    assert (cli.folder / "rows.parquet").read_bytes()[:4] == b"PAR1"
    for named, wish in (("other.parquet", "jsonl"), ("other.jsonl", "parquet"), ("other.json", "parquet")):
        message = cli.refused("export", "samples", "r", "--output", named, "--format", wish)
        assert message == f"--format {wish} does not go with a file named {named}"
        assert not (cli.folder / named).exists()
