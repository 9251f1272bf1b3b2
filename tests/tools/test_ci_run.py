"""`.ci/run` in a folder of its own, with a `make` that writes down what it was asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """#!/bin/sh
echo "$* complete=$HSSTAR_TESTS_COMPLETE by=$PYTEST" >>"$LOG"
[ "$*" != "$FAILS" ]
"""
TARGETS = ["vllm-cpu", "check", "docs", "test-unit", "test", "test-heavy", "test-chaos"]


def ci_run(folder: Path, fails: str = "") -> tuple[int, list[str]]:
    """The exit code, and what was made in which environment; the target `fails` fails."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
    for program, text in ((folder / ".ci" / "servers", "#!/bin/sh\n"), (folder / "make", MAKE)):
        program.write_text(text)
        program.chmod(0o755)
    log = folder / "log"
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(log), "FAILS": fails}
    code = subprocess.run([folder / ".ci" / "run"], cwd="/", env=environment, timeout=30).returncode
    return code, log.read_text().splitlines()


def test_ci_makes_every_target_with_the_second_try_and_without_skips(tmp_path: Path) -> None:
    code, made = ci_run(tmp_path)
    environment = "complete=1 by=.venv/bin/python -m tools.ci_tests"
    assert (code, made) == (0, [f"{target} {environment}" for target in TARGETS])


@pytest.mark.parametrize("target", TARGETS)
def test_ci_ends_at_the_first_target_that_fails(tmp_path: Path, target: str) -> None:
    code, made = ci_run(tmp_path, fails=target)
    assert code != 0
    assert [line.split()[0] for line in made] == TARGETS[: TARGETS.index(target) + 1]
