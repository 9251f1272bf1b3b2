"""A worker for tests: `worker_program.py ROLE NAME`. It sleeps, or misbehaves as its role says."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

role, name = sys.argv[1:]
print(f"{name} has started", flush=True)
if role.startswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if role == "parent":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", os.environ["HSSTAR_HOME"]])
shown = {name: value for name, value in os.environ.items() if name.startswith(("HSSTAR_", "TEST_"))}
Path(os.environ["HSSTAR_HOME"], f"{name}.environment").write_text(repr(shown))
time.sleep(600)
