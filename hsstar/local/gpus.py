"""Which GPUs a new process may use, asked of the driver and not of PyTorch, which takes seconds to import."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS = 30  # the first call after a boot may load the driver
_LISTED = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", re.MULTILINE)
_DRIVER = Path("/proc/driver/nvidia/gpus")


def find_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them, restricted to those it names already."""
    return visible_gpus(_identifiers(), environ.get("CUDA_VISIBLE_DEVICES"))


def least_gpu_memory(environ: Mapping[str, str]) -> int | None:
    """Bytes of memory of the smallest visible GPU; None where there is none or the driver does not say."""
    visible = find_gpus(environ)
    query = ["nvidia-smi", "--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return smallest_memory(listed, visible)


def smallest_memory(listed: str, visible: Sequence[str]) -> int | None:
    """Bytes of the smallest of the visible GPUs, from lines `index, MiB`; None where none is listed."""
    sizes = [line.split(", ") for line in listed.strip().splitlines()]
    known = [int(size) << 20 for index, size in sizes if index in visible and size.isdecimal()]
    return min(known, default=None)


def visible_gpus(identifiers: Sequence[str], visible: str | None) -> tuple[str, ...]:
    """The GPUs that CUDA shows: all, or those of CUDA_VISIBLE_DEVICES up to the first unknown one.

    Args:
        identifiers: the UUIDs of the machine's GPUs, by index.
        visible: the variable's value; None where it is not set.
    """
    if visible is None:
        return tuple(map(str, range(len(identifiers))))
    found: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        gpu = _gpu(entry, identifiers)
        if gpu is None or gpu in found:
            break
        found.append(gpu)
    return tuple(found)


def _gpu(entry: str, identifiers: Sequence[str]) -> str | None:
    """An entry of CUDA_VISIBLE_DEVICES as an index; a part of a GPU (MIG) as it stands."""
    if entry.isdecimal():
        return str(int(entry)) if int(entry) < len(identifiers) else None
    if entry.startswith("MIG-"):
        return entry if identifiers else None
    matching = [index for index, name in enumerate(identifiers) if entry and name.startswith(entry)]
    return str(matching[0]) if len(matching) == 1 else None


def _identifiers() -> tuple[str, ...]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return _identifiers_of_driver()
    return tuple(identifier for _, identifier in _LISTED.findall(listed))


def _identifiers_of_driver() -> tuple[str, ...]:
    """What the driver says where its program is missing, in the order of the PCI bus."""
    texts = [file.read_text(errors="replace") for file in sorted(_DRIVER.glob("*/information"))]
    found = [re.search(r"^GPU UUID:\s*(GPU-\S+)", text, re.MULTILINE) for text in texts]
    return tuple(match[1] for match in found if match)
