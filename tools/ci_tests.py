"""Runs tests as CI does: `python -m tools.ci_tests [-n N --dist MODE] [-m EXPRESSION] PATH ...`.

Two cores that do two things at once make some tests late. So the files of failed tests run once more, alone.
They run only after a session that ran to its end (pytest's exit code 1, no crashed worker), because otherwise
some tests have not run at all. A test that passes only at its second try is named, and is an error unless
`tests/flaky.txt` lists it.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAKY = Path("tests/flaky.txt")
_ENTRY = re.compile(r"(?P<test>\S.*?)\s+(?P<date>\d{4}-\d{2}-\d{2})\s+(?P<reason>\S.*)")


@dataclass(frozen=True)
class Session:
    """What a pytest session did.

    Attributes:
        exit_code: of its process.
        problem: why it did not run to its end; empty if it did.
        outcomes: `passed`, `failed` or `skipped` by test.
    """

    exit_code: int
    problem: str
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """The tests that failed."""
        return [test for test, outcome in self.outcomes.items() if outcome == "failed"]


def read_flaky(path: Path) -> dict[str, str]:
    """The known flakes: what is known of each, by test.

    Raises:
        ValueError: a line does not say test, date and reason.
    """
    flaky = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None:
            raise ValueError(f"{path}:{number}: expected TEST YYYY-MM-DD REASON")
        flaky[entry["test"]] = f"known since {entry['date']}: {entry['reason']}"
    return flaky


def run_session(arguments: Sequence[str]) -> Session:
    """Runs pytest with these arguments in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        plugin = ["-p", "tools.session_report", "--session-report", str(file)]
        exit_code = subprocess.run([sys.executable, "-m", "pytest", *plugin, *arguments]).returncode
        if not file.exists():
            return Session(exit_code, "its process died")
        report: dict[str, Any] = json.loads(file.read_text())
    if report["crashes"]:
        problem = f"a worker crashed ({report['crashes'][0]})"
    elif exit_code not in (0, 1) or exit_code != report["exit"]:
        problem = f"pytest ended with exit code {exit_code}"
    elif exit_code and "failed" not in report["outcomes"].values():
        problem = "pytest failed, but no test did"
    else:
        problem = ""
    return Session(exit_code, problem, report["outcomes"])


def judge_second_try(first: Session, second: Session, flaky: dict[str, str]) -> int:
    """Prints what the second try says of the tests that failed at the first, and returns the exit code."""
    if second.problem:
        _say(f"the second try did not run to its end: {second.problem}")
        return 1
    late = [test for test in first.failed if second.outcomes.get(test) == "passed"]
    wrong = sorted({*first.failed, *second.failed} - {*late})
    _say(
        f"passed only at the second try: {len(late)}",
        *(f"{t} ({flaky.get(t, f'not in {FLAKY}')})" for t in late),
    )
    if wrong:
        _say(f"failed: {len(wrong)}", *wrong)
    return int(bool(wrong) or any(test not in flaky for test in late))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tests, and the files of those that failed once more."""
    parser = argparse.ArgumentParser(prog="python -m tools.ci_tests")
    parser.add_argument("-n")
    parser.add_argument("--dist")
    parser.add_argument("-m", default="")
    parser.add_argument("paths", nargs="+")
    wish = parser.parse_args(arguments)
    flaky = read_flaky(FLAKY)
    parallel = ["-n", wish.n, "--dist", wish.dist] if wish.n else []
    first = run_session([*parallel, "-m", wish.m, *wish.paths])
    if first.problem:
        _say(f"the session did not run to its end, so nothing runs again: {first.problem}")
        return 1
    if not first.exit_code:
        return 0
    files = sorted({test.partition("::")[0] for test in first.failed})
    _say(f"failed: {len(first.failed)}", *first.failed)
    _say("these files run once more, alone:", *files)
    return judge_second_try(first, run_session(["-m", wish.m, *files]), flaky)


def _say(line: str, *details: str) -> None:
    print(f"\n== {line}", *details, sep="\n   ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
