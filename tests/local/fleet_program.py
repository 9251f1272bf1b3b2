"""Several test workers under one supervisor: `fleet_program.py HOME ROLE …`, as `hsstar worker` does it."""

import logging
import sys
from pathlib import Path

from hsstar.local.state import WorkerSpec
from hsstar.local.supervisor import keep_running
from tests.local.conftest import worker

home = Path(sys.argv[1])
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
workers = [
    WorkerSpec(f"{role}-gpu{gpu}", role, tuple(worker(role, f"{role}-gpu{gpu}")),
                        {"CUDA_VISIBLE_DEVICES": str(gpu), "HSSTAR_HOME": str(home)})
    for gpu, role in enumerate(sys.argv[2:])
]  # fmt: skip
sys.exit(0 if keep_running(workers, home / "logs", home) else 130)
