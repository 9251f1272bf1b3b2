"""What a test starts as a program of hsstar has to be this checkout, whatever else is installed."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_WHERE = (
    "import hsstar, hsstar.cli, hsstar.workers as w; print(hsstar.__file__, hsstar.cli.__file__, w.__file__)"
)


def check_is_this_checkout(environment: Mapping[str, str]) -> None:
    """Fail unless this interpreter takes hsstar's modules from this checkout, in any folder."""
    done = subprocess.run(
        [sys.executable, "-c", _WHERE], cwd="/", env=environment, capture_output=True, text=True
    )
    places = [Path(place).resolve() for place in done.stdout.split()]
    assert places, f"{sys.executable} has no hsstar: {done.stderr}"
    strange = [str(place) for place in places if not place.is_relative_to(ROOT)]
    assert not strange, f"{sys.executable} runs {', '.join(strange)}, and the tests are those of {ROOT}"


@pytest.fixture(scope="session", autouse=True)
def this_checkout() -> None:
    """Every test beside this fixture may start `python -m hsstar…`, or `hsstar` beside the interpreter."""
    check_is_this_checkout({})
    program = Path(sys.executable).parent / "hsstar"
    assert program.exists(), f"there is no program {program}; run: make install"
