"""Several test workers under one supervisor: `fleet_program.py HOME ROLE …`, as `hsstar worker` does it.

With TEST_HURRY=1 its rounds are short and its clock runs a thousand times as fast; it says each round.
"""

import logging
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from hsstar.local import supervisor
from hsstar.local.state import WorkerSpec
from hsstar.local.supervisor import keep_running
from tests.local.conftest import worker


class Signals(supervisor._Signals):
    """Says each wait, which is a round."""

    def wait(self, seconds: float) -> None:
        print("a round", flush=True)
        super().wait(min(seconds, 0.02))


if os.environ.get("TEST_HURRY"):
    supervisor.time = SimpleNamespace(monotonic=lambda: 1000 * time.monotonic())  # type: ignore[assignment, attr-defined]
    supervisor._Signals = Signals  # type: ignore[misc]
home = Path(sys.argv[1])
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
workers = [
    WorkerSpec(f"{role}-gpu{gpu}", role, tuple(worker(role, f"{role}-gpu{gpu}")),
                        {"CUDA_VISIBLE_DEVICES": str(gpu), "HSSTAR_HOME": str(home)})
    for gpu, role in enumerate(sys.argv[2:])
]  # fmt: skip
sys.exit(0 if keep_running(workers, home / "logs", home) else 130)
