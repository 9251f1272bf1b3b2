"""One rank of a launched training, on a CPU even if the ranks share the model; it can note its peak memory.

accelerate shares models among GPUs only. Here it takes the processes for ones with a GPU each: gloo and
PyTorch's FSDP2 do the same work without.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from hsstar.engines.training import rank, trl

PEAKS, WARM_UP = "PEAKS_OF_RANKS", "WARM_UP_POLICY"
"""Variables: a folder for the peaks, a file each; a small policy, trained first for what libraries keep."""

_begin = PartialState.__init__
_module: Any = trl
_save = _module.save_policy


def _begin_as_on_gpus(state: Any, *arguments: Any, **options: Any) -> None:
    _begin(state, *arguments, **options)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def _memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


@contextmanager
def _peak(file: Path) -> Iterator[threading.Event]:
    """Note the most memory over that of now, until the event."""
    base, peak, ended = _memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.005):
            peak = max(peak, _memory() - base)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield ended
    ended.set()
    watcher.join()
    file.write_text(str(peak))


def _measure(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    output = Path(job["task"]["output"])
    warm_up = {"policy": os.environ[WARM_UP], "output": str(output.with_name("warm-up"))}
    rank.train({**job, "task": job["task"] | warm_up})
    with _peak(Path(os.environ[PEAKS]) / os.environ.get("RANK", "0")) as ended:

        def save(*arguments: Any) -> Any:
            ended.set()  # the trained weights are gathered in the memory of the machine, not of a GPU
            return _save(*arguments)

        _module.save_policy = save
        rank.main(folder)


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        PartialState.__init__ = _begin_as_on_gpus
    (_measure if PEAKS in os.environ else rank.main)(Path(sys.argv[1]))
