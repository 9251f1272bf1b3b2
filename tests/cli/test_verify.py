"""`hsstar verify`: verdicts on a file of answers, without a home or a database."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.conftest import ENDLESS, Called, CommandLine
from tests.waiting import wait_for

COMMAND = [sys.executable, "-m", "hsstar.cli", "verify"]
SECONDS = 60.0

Row = dict[str, Any]


def algebraic(number: int) -> Row:
    """A correct answer that the text alone does not prove, each number another one."""
    return {"answer": f"x+{number}", "reference": f"{number}+x"}


def json_lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def run(alone: CommandLine, content: bytes, *arguments: str) -> Called:
    """Verifies a file `answers.jsonl` with this content."""
    (alone.folder / "answers.jsonl").write_bytes(content)
    return alone("verify", "answers.jsonl", *arguments)


def verdicts(alone: CommandLine, rows: list[Row], *arguments: str) -> list[Row]:
    """What is written for these rows."""
    done = run(alone, json_lines(rows), *arguments)
    assert done.code == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def refusal(done: Called) -> str:
    """The one line that says why nothing, or not everything, was done."""
    assert done.code == 1
    [line] = done.err.splitlines()
    assert line.startswith("hsstar: ")
    return line.removeprefix("hsstar: ")


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work on a standard input that stays open; none of its processes may outlive it."""
    with subprocess.Popen(
        [*COMMAND, "-", *arguments],
        env={},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell's background jobs ignore Ctrl-C, and their children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def feed(process: subprocess.Popen[bytes], rows: list[Row]) -> None:
    assert process.stdin
    process.stdin.write(json_lines(rows))
    process.stdin.flush()


def checking_processes(process: subprocess.Popen[bytes], busy_seconds: float = 0.0) -> list[psutil.Process]:
    """The living processes below the command that have computed for so long."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and sum(child.cpu_times()[:2]) >= busy_seconds:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def test_every_line_gets_its_line_in_order(alone: CommandLine) -> None:
    rows = [{"answer": str(number % 7), "reference": str(number % 5)} for number in range(2_500)]
    expected = ["correct" if number % 7 == number % 5 else "incorrect" for number in range(2_500)]
    done = run(alone, json_lines(rows))
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {"verdict": cause, "cause": cause, "answer": row["answer"]}
        for row, cause in zip(rows, expected, strict=True)
    ]
    right = expected.count("correct")
    assert done.err == f"2500 lines: {right} correct, {2_500 - right} incorrect, 0 without verdict\n"


def test_a_person_sees_how_many_lines_are_verified(alone: CommandLine) -> None:
    (alone.folder / "answers.jsonl").write_bytes(json_lines([{"answer": "1", "reference": "1"}] * 2_500))
    arguments = ("verify", "answers.jsonl", "--output", "verdicts.jsonl")
    summary = "2500 lines: 2500 correct, 0 incorrect, 0 without verdict\n"
    said = alone(*arguments, terminal=True).err
    assert said == f"\r1000 lines verified \r2000 lines verified \r\x1b[K{summary}"
    assert alone(*arguments[:2], terminal=True).err == said  # the verdicts go elsewhere too
    assert alone(*arguments, "--overwrite").err == summary


def test_answers_responses_and_numbers(alone: CommandLine) -> None:
    found = verdicts(
        alone,
        [
            {"answer": r"\frac{2}{4}", "reference": "0.5", "id": 7},
            {"response": r"First \boxed{1}, then $\boxed{\frac{2}{4}}$.", "reference": 0.5},
            {"answer": 42, "reference": 42},
            {"answer": r"\boxed{3", "reference": "3"},
            {"response": r"so \boxed{3", "reference": "3"},
            {"response": "The answer is 3", "reference": "3", "truncated": False},
            {"response": "The answer is 3", "reference": "3", "truncated": True},
        ],
    )
    assert [list(row) for row in found] == [["verdict", "cause", "answer"]] * 7
    assert [tuple(row.values()) for row in found] == [
        ("correct", "correct", r"\frac{2}{4}"),
        ("correct", "correct", r"\frac{2}{4}"),
        ("correct", "correct", "42"),
        ("incorrect", "unparsable", r"\boxed{3"),
        ("incorrect", "no_answer", None),
        ("correct", "correct", "3"),
        ("incorrect", "no_answer", None),
    ]


def test_every_line_has_its_cause_and_a_hostile_one_harms_no_other(alone: CommandLine) -> None:
    rows: list[Row] = [
        algebraic(1),
        {"answer": "x+1", "reference": "x+2"},
        {"response": "I do not know.", "reference": "7"},
        {"answer": r"\frac{1}{", "reference": "7"},
        {"answer": ENDLESS, "reference": "7"},
        {"answer": "7", "reference": "???"},
        algebraic(2),
    ]
    found = verdicts(alone, rows, "--deadline", "1.5", "--processes", "2", "--memory-limit", "512")
    assert [(row["verdict"], row["cause"]) for row in found] == [
        ("correct", "correct"),
        ("incorrect", "incorrect"),
        ("incorrect", "no_answer"),
        ("incorrect", "unparsable"),
        (None, "timed_out"),
        (None, "bad_reference"),
        ("correct", "correct"),
    ]


def test_a_checking_process_that_dies_costs_one_verdict(tmp_path: Path) -> None:
    with started(tmp_path, "--processes", "1", "--deadline", "100") as process:
        feed(process, [algebraic(1), {"answer": ENDLESS, "reference": "7"}, algebraic(2)])
        assert process.stdin
        process.stdin.close()
        wait_for(lambda: checking_processes(process, busy_seconds=3.0), SECONDS)
        for child in checking_processes(process, busy_seconds=3.0):
            child.kill()
        assert process.stdout
        found = [json.loads(line)["cause"] for line in process.stdout]
    assert found == ["correct", "crashed", "correct"]


def test_unicode_comes_out_as_it_went_in(alone: CommandLine) -> None:
    rows = [
        {"answer": "π ≈ 3", "reference": "é"},
        {"answer": "naïve 答え 🙂", "reference": "naïve 答え 🙂"},
        {"answer": "7\ud800", "reference": "7"},
    ]
    done = run(alone, "\n".join(json.dumps(row, ensure_ascii=row is rows[2]) for row in rows).encode())
    lines = done.out.splitlines()
    assert len(lines) == 3
    assert '"answer": "π ≈ 3"' in lines[0]
    assert '"verdict": "correct"' in lines[1]
    assert '"answer": "naïve 答え 🙂"' in lines[1]


def test_blank_lines_are_left_out(alone: CommandLine) -> None:
    content = b'\xef\xbb\xbf{"answer": 1, "reference": 1}\r\n\r\n   \n{"answer": 2, "reference": 1}'
    done = run(alone, content)
    assert [json.loads(line)["cause"] for line in done.out.splitlines()] == ["correct", "incorrect"]


def test_a_file_is_written_whole_or_not_at_all(alone: CommandLine) -> None:
    target = alone.folder / "verdicts.jsonl"
    target.write_text("old")
    good, bad = json_lines([{"answer": 1, "reference": 1}] * 3), b"broken\n"
    assert "answers.jsonl:4: " in refusal(run(alone, good + bad, "--output", "verdicts.jsonl", "--overwrite"))
    assert target.read_text() == "old"
    assert sorted(path.name for path in alone.folder.iterdir()) == ["answers.jsonl", "verdicts.jsonl"]
    done = run(alone, good, "--output", "verdicts.jsonl", "--overwrite")
    assert (done.code, done.out) == (0, "")
    assert len(target.read_text().splitlines()) == 3
    assert "No such file" in refusal(run(alone, good, "--output", "none/verdicts.jsonl"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "broken JSON"),
        (b'{"answer": "\xff", "reference": "1"}', "not UTF-8 (byte 0xff)"),
        (b"[1, 1]", "found a list"),
        (b"null", "found null"),
        (b'{"answer": "1"}', "expected reference"),
        (b'{"reference": "1"}', "found neither"),
        (b'{"answer": "1", "response": "1", "reference": "1"}', "found both"),
        (b'{"answer": null, "reference": "1"}', "under answer, found null"),
        (b'{"answer": "1", "reference": null}', "under reference, found null"),
        (b'{"answer": "1", "reference": ["1"]}', "under reference, found a list"),
        (b'{"answer": "1", "reference": true}', "under reference, found a truth value"),
        (b'{"response": {}, "reference": "1"}', "under response, found an object"),
        (b'{"response": "1", "reference": "1", "truncated": 1}', "under truncated, found a number"),
        (b'{"answer": 1' + b"0" * 5_000 + b', "reference": "1"}', "cannot read the JSON"),
    ],
)
def test_a_bad_line_is_named_and_what_stands_before_it_is_verified(
    alone: CommandLine, line: bytes, message: str
) -> None:
    before = json_lines([{"answer": "1", "reference": "1"}] * 3)
    done = run(alone, before + line + b"\n" + before)
    assert refusal(done).startswith("answers.jsonl:4: ")
    assert message in refusal(done)
    assert [json.loads(found)["cause"] for found in done.out.splitlines()] == ["correct"] * 3


def test_files_that_cannot_be_read(alone: CommandLine) -> None:
    assert refusal(run(alone, b"")) == "answers.jsonl holds no rows"
    assert "none.jsonl does not exist" in refusal(alone("verify", "none.jsonl"))
    assert ". is a folder" in refusal(alone("verify", "."))
    assert refusal(alone("verify", "-", given=b"{}")).startswith("<stdin>:1: ")


def test_a_pipe_gets_verdicts_before_its_input_ends(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        feed(process, [{"answer": "1", "reference": "1"}] * 1_000)
        assert process.stdout
        assert all(process.stdout.readline() for _ in range(1_000))
        feed(process, [{"answer": "1", "reference": "2"}])
        out, error = process.communicate(timeout=SECONDS)
    assert json.loads(out)["cause"] == "incorrect"
    assert error.startswith(b"1001 lines: 1000 correct, 1 incorrect")


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_bytes(json_lines([{"answer": "1", "reference": "1"}] * 20_000))
    with subprocess.Popen(
        [*COMMAND, "answers.jsonl"], env={}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "--deadline", "100", "--output", "verdicts.jsonl") as process:
        feed(process, [{"answer": ENDLESS, "reference": "7"}] * 1_000)
        wait_for(lambda: checking_processes(process, busy_seconds=1.0), SECONDS)
        children = checking_processes(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr
        assert process.stderr.read().splitlines()[-1] == b"hsstar: interrupted"
    wait_for(lambda: not any(child.is_running() for child in children))
    assert list(tmp_path.iterdir()) == []


def test_a_verdict_is_explained(alone: CommandLine) -> None:
    def explained(*arguments: str) -> Row:
        found: Row = json.loads(alone.ok("verify", "--json", "--explain", *arguments))
        return found

    found = explained(r"So it is \boxed{\frac{2}{4}}.", "0.5")
    assert (found["extraction"], found["answer"]) == ("boxed", r"\frac{2}{4}")
    assert (found["cause"], found["verdict"]) == ("correct", "correct")
    assert all(found[name] for name in ("answer_form", "reference_form", "rule"))
    found = explained("-5", "-\\theta")
    assert (found["extraction"], found["answer"], found["verdict"]) == ("as given", "-5", "incorrect")
    assert "answer          [/b] π" in alone.ok("verify", "--explain", "[/b] π", "π").splitlines()


def test_what_to_verify_is_said_once(alone: CommandLine) -> None:
    for arguments in ((), ("answers.jsonl", "--explain", "1", "1"), ("--explain", "1"), ("x", "--json")):
        done = alone("verify", *arguments)
        assert done.code == 2
        assert "--explain" in done.err.splitlines()[-1]
    assert "nan is not a number of seconds" in alone("verify", "x", "--deadline", "nan").err
