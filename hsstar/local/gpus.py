"""The GPUs that a new process may use, from the driver: importing PyTorch takes seconds."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS = 30  # the first call after a boot may load the driver
_LISTED = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", re.MULTILINE)
_DRIVER = Path("/proc/driver/nvidia/gpus")


def find_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return this machine's GPUs as CUDA_VISIBLE_DEVICES names them, and only those if it is set."""
    return visible_gpus(_identifiers(), environ.get("CUDA_VISIBLE_DEVICES"))


def least_gpu_memory(environ: Mapping[str, str]) -> int | None:
    """Return the bytes of the smallest visible GPU; None without a GPU or if the driver does not say."""
    visible = find_gpus(environ)
    listed = _nvidia_smi("--query-gpu=index,memory.total", "--format=csv,noheader,nounits")
    return None if listed is None else smallest_memory(listed, visible)


def smallest_memory(listed: str, visible: Sequence[str]) -> int | None:
    """Return the bytes of the smallest visible GPU from lines `index, MiB`; None if none is listed."""
    sizes = [line.split(", ") for line in listed.strip().splitlines()]
    known = [int(size) << 20 for index, size in sizes if index in visible and size.isdecimal()]
    return min(known, default=None)


def visible_gpus(identifiers: Sequence[str], visible: str | None) -> tuple[str, ...]:
    """Return the GPUs that CUDA shows: all, or those of CUDA_VISIBLE_DEVICES up to the first unknown one.

    `identifiers` are the UUIDs of the machine's GPUs by index, `visible` is the variable's value.
    """
    if visible is None:
        return tuple(map(str, range(len(identifiers))))
    gpus: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        gpu = _gpu(entry, identifiers)
        if gpu is None or gpu in gpus:
            break
        gpus.append(gpu)
    return tuple(gpus)


def _gpu(entry: str, identifiers: Sequence[str]) -> str | None:
    if entry.isdecimal():
        return str(int(entry)) if int(entry) < len(identifiers) else None
    if entry.startswith("MIG-"):
        return entry if identifiers else None
    matching = [index for index, name in enumerate(identifiers) if entry and name.startswith(entry)]
    return str(matching[0]) if len(matching) == 1 else None


def _identifiers() -> tuple[str, ...]:
    listed = _nvidia_smi("-L")
    if listed is None:
        return _identifiers_of_driver()
    return tuple(identifier for _, identifier in _LISTED.findall(listed))


def _nvidia_smi(*options: str) -> str | None:
    command = ["nvidia-smi", *options]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _identifiers_of_driver() -> tuple[str, ...]:
    """Read the UUIDs from the driver's files if its program is missing, in the order of the PCI bus."""
    texts = [file.read_text(errors="replace") for file in sorted(_DRIVER.glob("*/information"))]
    matches = [re.search(r"^GPU UUID:\s*(GPU-\S+)", text, re.MULTILINE) for text in texts]
    return tuple(match[1] for match in matches if match)
