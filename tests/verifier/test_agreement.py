"""`bench.agreement` counts the errors of both verifiers and shows where they differ."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.agreement import PlainVerifier, error_of
from hsstar.verifier import VerificationRequest
from tests.checkout import ROOT


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.agreement", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, without the line below the heading."""
    found = re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE)
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        for table in found
    ]


@pytest.mark.heavy  # Math-Verify takes its whole time for the endless one
def test_errors_are_counted_by_kind_and_shown(tmp_path: Path) -> None:
    cases = write(
        tmp_path / "cases.jsonl",
        {"kind": "sums", "answer": "x+1", "reference": "1+x", "verdict": "correct"},
        {"kind": "sums", "answer": "x+1", "reference": "x+2", "verdict": "correct"},
        {"kind": "said wrongly", "response": "so |7|, \\boxed{7}", "reference": "7", "verdict": "incorrect"},
        {"kind": "endless", "answer": "\\sum_{n=1}^{10^9} n^n", "reference": "7", "verdict": "incorrect"},
    )
    problems = write(
        tmp_path / "benchmarks" / "some.jsonl",
        *({"problem": f"{answer}=?", "answer": answer} for answer in ("1", "2", "2.0", "x+y")),
    )
    responses = {"problem": "?", "answer": "3", "responses": [{"response": "\\boxed{3}"}, {"response": "4"}]}
    file = write(tmp_path / "responses.jsonl", responses)
    files = ("--cases", cases, "--benchmarks", problems.parent, "--responses", file)
    done = compare(*files, "--patience", "10")
    assert done.returncode == 0, done.stderr
    headings = re.findall("^## (.*)", done.stdout, re.MULTILINE)
    assert headings == ["4 judged cases", "2 responses of models", "4 references of benchmarks"]
    totals, kinds, *rest = tables(done.stdout)
    assert totals[0] == ["verifier", "wrong accepts", "wrong rejects", "no verdict", "errors"]
    assert totals[2] == ["hsstar", "1", "1", "1", "3"]
    assert totals[3][:3] == ["Math-Verify", "1", "1"]
    assert kinds[0] == ["kind", "cases", "hsstar", "Math-Verify"]
    assert ["sums", "2", "0 + 1 + 0", "0 + 1 + 0"] in kinds
    assert ["said wrongly", "1", "1 + 0 + 0", "1 + 0 + 0"] in kinds
    assert ["kind", "answer", "reference"] in [table[0] for table in rest]
    assert ["sums", "`` x+1 ``", "`` x+2 ``"] in [row for table in rest for row in table]
    assert ["said wrongly", "`` so \\|7\\|, \\boxed{7} ``", "`` 7 ``"] in [
        row for table in rest for row in table
    ]
    counted = [table[2:] for table in rest if table[0] == ["hsstar", "Math-Verify", "pairs"]]
    responded, itself, beside = [{(ours, theirs): int(n) for ours, theirs, n in rows} for rows in counted]
    assert itself == {("correct", "correct"): 4}
    assert beside == {("incorrect", "incorrect"): 2, ("correct", "correct"): 1}
    assert responded == {("correct", "correct"): 1, ("incorrect", "incorrect"): 1}


def test_a_file_that_is_missing_ends_the_comparison(tmp_path: Path) -> None:
    done = compare("--cases", tmp_path / "none.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"nothing is compared: {tmp_path / 'none.jsonl'} is not here\n"


def test_math_verify_is_replaced_when_it_dies() -> None:
    right = VerificationRequest(r"\boxed{7}", "7")
    with PlainVerifier() as plain:
        assert plain.verdict(right) == "correct"
        plain._process.kill()
        assert plain.verdict(right) is None
        assert plain.verdict(right) == "correct"
        assert plain.verdict(VerificationRequest("x+1", "x+2", is_answer=True)) == "incorrect"


def test_an_error_is_named_by_what_was_given_and_what_is_right() -> None:
    assert [error_of(verdict, "incorrect") for verdict in ("correct", "incorrect", None)] == [
        "wrong accepts", None, "no verdict"
    ]  # fmt: skip
    assert error_of("incorrect", "correct") == "wrong rejects"
