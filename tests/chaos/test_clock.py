"""The clock of the chaos: what it does to processes must not be what hsstar is blamed for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.clock import LIBRARY, Clock

pytestmark = pytest.mark.chaos


@pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian: faketime)")
def test_a_process_that_dies_while_it_reads_its_clock_stops_no_other(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    try:
        clock.set(3_600)
        clock.take()  # and never give it back
        program = [sys.executable, "-c", "import time; print(time.time())"]
        shown = subprocess.run(program, env=clock.environment, capture_output=True, timeout=20, text=True)
        assert float(shown.stdout) > 3_000 + Path(tmp_path).stat().st_mtime
    finally:
        clock.close()
