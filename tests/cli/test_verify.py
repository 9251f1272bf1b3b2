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
from tests.waiting import hear_signals, wait_for

HERE = Path(__file__).parent
RIGHT = b'{"answer": 1, "reference": 1}\n'


def verify(alone: CommandLine, content: bytes, *arguments: str, terminal: bool = False) -> Called:
    """Verifies a file `answers.jsonl` with this content."""
    (alone.folder / "answers.jsonl").write_bytes(content)
    return alone("verify", "answers.jsonl", *arguments, terminal=terminal)


def causes(text: str) -> list[str]:
    return [json.loads(line)["cause"] for line in text.splitlines()]


@contextmanager
def started(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Any, Any, Any]]:
    """The command and its three pipes, its input open; none of its processes may outlive it."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    pipes["preexec_fn"] = hear_signals
    command = [sys.executable, "-m", "hsstar.cli", "verify", "-", *arguments]
    with subprocess.Popen(command, env={}, cwd=folder, **pipes) as process:
        try:
            yield process, process.stdin, process.stdout, process.stderr
        finally:
            process.kill()


def test_every_line_gets_its_verdict_in_order_and_a_hostile_one_harms_no_other(alone: CommandLine) -> None:
    limits = ("--deadline", "0.5", "--processes", "2", "--memory-limit", "512")
    done = verify(alone, (HERE / "answers.jsonl").read_bytes(), *limits)
    assert done.out == (HERE / "verdicts.jsonl").read_text()
    assert done.err == "17 lines: 7 correct, 8 incorrect, 2 without verdict\n"


def test_a_person_sees_how_many_lines_are_verified(alone: CommandLine) -> None:
    content = b"".join(b'{"answer": %d, "reference": %d}\n' % (n % 7, n % 5) for n in range(2_500))
    expected = ["correct" if n % 7 == n % 5 else "incorrect" for n in range(2_500)]
    right = expected.count("correct")
    summary = f"2500 lines: {right} correct, {2_500 - right} incorrect, 0 without verdict\n"
    done = verify(alone, content, terminal=True)
    assert causes(done.out) == expected
    assert done.err == f"\r1000 lines verified \r2000 lines verified \r\x1b[K{summary}"
    assert verify(alone, content, "--output", "verdicts.jsonl", terminal=True) == Called(0, "", done.err)
    assert (alone.folder / "verdicts.jsonl").read_text() == done.out
    assert verify(alone, content) == Called(0, done.out, summary)


def test_a_file_is_written_whole_or_not_at_all(alone: CommandLine) -> None:
    target = alone.folder / "verdicts.jsonl"
    target.write_text("old")
    assert verify(alone, RIGHT * 3 + b"broken\n", "--output", "verdicts.jsonl", "--force").code == 1
    assert target.read_text() == "old"
    assert sorted(path.name for path in alone.folder.iterdir()) == ["answers.jsonl", "verdicts.jsonl"]
    assert "No such file" in alone.refused("verify", "answers.jsonl", "--output", "none/verdicts.jsonl")


def test_a_bad_line_is_named_and_what_stands_before_it_is_verified(alone: CommandLine) -> None:
    line = b'{"answer": "\xff", "reference": "1"}'
    done = verify(alone, RIGHT * 3 + b"\n" + line + b"\n" + RIGHT)
    assert (done.code, causes(done.out)) == (1, ["correct"] * 3)
    assert done.err.startswith("hsstar: answers.jsonl:5: not UTF-8 (byte 0xff)")
    assert alone("verify", "-", given=line).err.startswith("hsstar: <stdin>:1: not UTF-8 (byte 0xff)")
    skipped = alone("verify", "answers.jsonl", "--skip-bad")
    assert (skipped.code, causes(skipped.out)) == (0, ["correct"] * 4)
    assert skipped.err.splitlines()[1:] == ["1 rows left out:", "  answers.jsonl:5: not UTF-8 (byte 0xff)"]


def test_a_pipe_gets_verdicts_before_its_input_ends(tmp_path: Path) -> None:
    with started(tmp_path) as (process, given, out, _):
        given.write(RIGHT * 1_000)
        given.flush()
        assert all(out.readline() for _ in range(1_000))
        rest, error = process.communicate(b'{"answer": "1", "reference": "2"}\n', timeout=60)
    assert causes(rest.decode()) == ["incorrect"]
    assert error.startswith(b"1001 lines: 1000 correct, 1 incorrect")


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    with started(tmp_path) as (_, given, out, error):
        given.write(RIGHT * 3_000)
        given.close()
        out.readline()
        out.close()
        assert error.read() == b""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_at_once_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, "--deadline", "100", "--output", "verdicts.jsonl") as (process, given, _, error):
        given.write(json.dumps({"answer": ENDLESS, "reference": "7"}).encode() + b"\n" + RIGHT * 999)
        given.flush()
        command = psutil.Process(process.pid)
        wait_for(lambda: any(sum(child.cpu_times()[:2]) > 1.0 for child in command.children(recursive=True)))
        children = command.children(recursive=True)
        process.send_signal(number)
        assert process.wait(timeout=30) == 130
        assert error.read().splitlines()[-1] == b"hsstar: interrupted"
    wait_for(lambda: not any(child.is_running() for child in children))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_verdict_is_explained(alone: CommandLine) -> None:
    boxed = json.loads(alone.ok("verify", "--json", "--explain", r"So it is \boxed{\frac{2}{4}}.", "0.5"))
    given = json.loads(alone.ok("verify", "--json", "--explain", "-5", "-\\theta"))
    found = {"extraction": "boxed", "answer": r"\frac{2}{4}", "cause": "correct", "verdict": "correct"}
    assert boxed == boxed | found and all(boxed[name] for name in ("answer_form", "reference_form", "rule"))
    found = {"extraction": "as given", "answer": "-5", "cause": "incorrect", "verdict": "incorrect"}
    assert given == given | found
    assert "answer          [/b] π" in alone.ok("verify", "--explain", "[/b] π", "π").splitlines()
