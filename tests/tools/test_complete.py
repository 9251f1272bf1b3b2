"""Where everything has to run, a test that is skipped has failed: real sessions of small suites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = {
    "skipped": "import pytest\n\n@pytest.mark.skip(reason='no server')\ndef test_it(): pass\n",
    "skips itself": "import pytest\n\ndef test_it(): pytest.skip('no server')\n",
    "module": "import pytest\n\npytest.skip('no server', allow_module_level=True)\n",
    "fixture": (
        "import pytest\n\n@pytest.fixture\ndef server(): pytest.skip('no server')\n\n"
        "def test_it(server): pass\n"
    ),
}
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail\ndef test_it(): assert False\n"


def session(folder: Path, text: str, complete: str | None) -> tuple[int, str]:
    """The exit code and the output of a session of one file with our conftest."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment.pop("HSSTAR_TESTS_COMPLETE", None)
    if complete is not None:
        environment["HSSTAR_TESTS_COMPLETE"] = complete
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), "-rA", folder],
        cwd=folder,
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", SUITES)
def test_a_skip_fails_and_says_why(tmp_path: Path, name: str) -> None:
    code, text = session(tmp_path, SUITES[name], "1")
    assert code != 0
    assert "everything has to run" in text and "no server" in text


@pytest.mark.parametrize("complete", [None, "", "0"])
def test_elsewhere_a_skip_is_a_skip(tmp_path: Path, complete: str | None) -> None:
    code, text = session(tmp_path, SUITES["skipped"], complete)
    assert code == 0
    assert "1 skipped" in text


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    code, text = session(tmp_path, EXPECTED_FAILURE, "1")
    assert code == 0
    assert "1 xfailed" in text
