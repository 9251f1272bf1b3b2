"""What CI makes of failing tests: real sessions of small suites."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.ci_tests import read_flaky

ROOT = Path(__file__).parents[2]
PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
LATE = """
from pathlib import Path

def test_late():
    mark = Path(__file__).with_suffix(".mark")
    if not mark.exists():
        mark.touch()
        assert False
"""
SPENT = """
def test_spent():
    Path(__file__).with_suffix(".spent").mkdir()
"""
KNOWN = "tests/test_late.py::test_late 2026-11-28 it waits for a clock\n"
PARALLEL = ("-n", "2", "--dist", "load")


def ci(folder: Path, *arguments: str, flaky: str = "", **suite: str) -> tuple[int, str]:
    """The exit code and the output of CI for a suite: the text of `tests/test_NAME.py` by name."""
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests" / "flaky.txt").write_text(flaky)
    for name, text in suite.items():
        (folder / "tests" / f"test_{name}.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}  # starts sooner
    done = subprocess.run(
        [sys.executable, "-m", "tools.ci_tests", *arguments, "tests"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("parallel", [(), PARALLEL], ids=["alone", "parallel"])
def test_a_suite_that_passes_runs_once(tmp_path: Path, parallel: tuple[str, ...]) -> None:
    code, text = ci(tmp_path, *parallel, passes=PASSES)
    assert code == 0
    assert text.count("1 passed") == 1 and "once more" not in text


def test_what_fails_twice_fails(tmp_path: Path) -> None:
    code, text = ci(tmp_path, passes=PASSES, fails=FAILS)
    assert code == 1
    assert "passed only at the second try: 0" in text
    assert "== failed: 1\n   tests/test_fails.py::test_fails" in text.split("second try")[1]


@pytest.mark.parametrize("parallel", [(), PARALLEL], ids=["alone", "parallel"])
@pytest.mark.parametrize(
    ("flaky", "code", "remark"),
    [("", 1, "not in tests/flaky.txt"), (KNOWN, 0, "known since 2026-11-28: it waits for a clock")],
)
def test_what_passes_at_the_second_try_is_named_and_must_be_known(
    tmp_path: Path, flaky: str, code: int, remark: str, parallel: tuple[str, ...]
) -> None:
    found, text = ci(tmp_path, *parallel, flaky=flaky, late=LATE, passes=PASSES)
    assert found == code
    assert f"passed only at the second try: 1\n   tests/test_late.py::test_late ({remark})" in text


def test_the_whole_file_of_a_failure_runs_again_and_no_other(tmp_path: Path) -> None:
    code, text = ci(tmp_path, flaky=KNOWN, late=LATE + PASSES, passes=PASSES)
    assert code == 0
    assert "1 failed, 2 passed" in text and "2 passed" in text.split("once more")[1]


def test_what_fails_only_at_the_second_try_fails(tmp_path: Path) -> None:
    code, text = ci(tmp_path, flaky=KNOWN, late=LATE + SPENT)
    assert code == 1
    assert "failed: 1\n   tests/test_late.py::test_spent" in text.split("second try")[1]


def test_what_is_skipped_at_the_second_try_has_not_passed(tmp_path: Path) -> None:
    code, text = ci(tmp_path, late=LATE + "    else:\n        import pytest; pytest.skip('no')\n")
    assert code == 1
    assert "failed: 1\n   tests/test_late.py::test_late" in text.split("second try")[1]


@pytest.mark.parametrize(
    ("suite", "parallel", "reason"),
    [
        ("import pytest\ndef test_stops(): pytest.exit('enough')\n", (), "exit code 2"),
        ("import pytest\ndef test_stops(): pytest.exit('enough')\n", PARALLEL, "a worker crashed"),
        ("import pytest\ndef test_stops(): pytest.exit('enough', returncode=1)\n", (), "no test did"),
        ("import os\ndef test_dies(): os._exit(1)\n", (), "its process died"),
        ("import os\ndef test_dies(): os._exit(0)\n", (), "its process died"),
        ("import os\ndef test_dies(): os._exit(1)\n", PARALLEL, "a worker crashed"),
        ("import none_of_that_name\n", (), "exit code 2"),
        ("import none_of_that_name\n", PARALLEL, "did not run to its end"),
        ("", (), "exit code 5"),
        ("", PARALLEL, "exit code 5"),
    ],
)
def test_a_session_that_did_not_end_fails_at_once(
    tmp_path: Path, suite: str, parallel: tuple[str, ...], reason: str
) -> None:
    code, text = ci(tmp_path, *parallel, suite=suite)
    assert code == 1
    assert "did not run to its end, so nothing runs again" in text and reason in text
    assert "once more" not in text


def test_the_group_of_a_test_is_no_part_of_its_name(tmp_path: Path) -> None:
    late = LATE.replace("def test_late", "import pytest\n\n@pytest.mark.xdist_group('g')\ndef test_late")
    code, text = ci(tmp_path, "-n", "2", "--dist", "loadgroup", flaky=KNOWN, late=late)
    assert code == 0, text


def test_only_the_marked_tests_run_again(tmp_path: Path) -> None:
    marked = LATE.replace("def test_late", "import pytest\n\n@pytest.mark.heavy\ndef test_late") + FAILS
    code, text = ci(tmp_path, "-m", "heavy", flaky=KNOWN, late=marked)
    assert code == 0, text


def test_a_known_flake_needs_a_date_and_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "flaky.txt"
    file.write_text("# a remark\n\ntests/a.py::test_x[1, 2] 2026-11-28 the machine is slow\n")
    assert read_flaky(file) == {"tests/a.py::test_x[1, 2]": "known since 2026-11-28: the machine is slow"}
    for line in ("tests/a.py::test_x", "tests/a.py::test_x 2026-11-28", "tests/a.py::test_x slow"):
        file.write_text(line)
        with pytest.raises(ValueError, match=r"flaky.txt:1: expected TEST YYYY-MM-DD REASON"):
            read_flaky(file)


def test_the_list_of_this_repository_is_readable() -> None:
    for test in read_flaky(ROOT / "tests" / "flaky.txt"):
        assert (ROOT / test.partition("::")[0]).exists(), test
