"""The two ways to make a sandbox, as command lines: bubblewrap, and namespaces by hand."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsstar.domain.errors import EngineError
from hsstar.verifier.sandbox import namespaces
from hsstar.verifier.sandbox.inside import harness  # and so Python keeps it compiled

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}  # noqa: S108
"""All that a program finds in its environment."""

_CODE = "/code/hsstar/verifier/sandbox/inside"
_START = (
    "import sys; sys.path.append('/code'); from hsstar.verifier.sandbox.inside.harness import main; main()"
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")


class SandboxError(EngineError):
    """No sandbox can be made, or one failed; it says nothing about the program."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start a process in a sandbox: command line and options of `subprocess.Popen`."""

    name: str
    command: Callable[[Sequence[str], int], list[str]]  # from the inner command and the bytes of /tmp
    options: Mapping[str, Any] = field(default_factory=dict)


def ways() -> list[Way]:
    """Return the ways that this machine may offer, the preferred one first."""
    found = []
    if program := shutil.which("bwrap"):
        as_somebody: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = namespaces.OTHER_USERS[0]
            as_somebody = {"user": nobody, "group": nobody, "extra_groups": []}
        found.append(Way("bubblewrap", lambda inner, size: _bubblewrap(program, inner, size), as_somebody))
    return [*found, Way("namespaces", _by_hand)]


def inner_command(*arguments: str) -> list[str]:
    """Return the command of the harness within a sandbox."""
    return [_interpreter(), "-P", "-s", "-S", "-B", "-c", _START, *arguments]


def _interpreter() -> str:
    """Return the interpreter itself, not the link of a virtual environment."""
    return os.path.realpath(sys.executable)


def _places() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the folders and files to bind, as source and target, and the links to make."""
    binds, links = [], []
    for place in map(Path, _SYSTEM):
        if place.is_symlink():
            links.append((str(place), os.readlink(place)))  # noqa: PTH115  # the text of the link
        elif place.exists():
            binds.append((str(place), str(place)))
    prefix = Path(sys.base_prefix)
    for place in (Path(_interpreter()).parent, prefix / "lib", prefix / "lib64"):
        if place.is_dir() and not place.is_relative_to("/usr"):
            binds.append((str(place), str(place)))
    return [*binds, (str(Path(str(harness.__file__)).parent), _CODE)], links


def _bubblewrap(program: str, inner: Sequence[str], temporary_bytes: int) -> list[str]:
    binds, links = _places()
    user = str(namespaces.USER)
    command = [program, "--unshare-user", "--uid", user, "--gid", user, "--unshare-pid", "--unshare-ipc"]
    command += ["--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    command += ["--die-with-parent", "--new-session"]
    for source, target in binds:
        command += ["--ro-bind", source, target]
    for link, target in links:
        command += ["--symlink", target, link]
    for device in namespaces.DEVICES:
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--size", str(temporary_bytes), "--perms", "1777", "--tmpfs", "/tmp", "--chdir", "/tmp"]  # noqa: S108
    return [*command, "--remount-ro", "/", "--", *inner]


def _by_hand(inner: Sequence[str], temporary_bytes: int) -> list[str]:
    binds, links = _places()
    settings = {"parent": os.getpid(), "binds": binds, "links": links, "temporary_bytes": temporary_bytes}
    program = str(namespaces.__file__)
    return [_interpreter(), "-I", "-S", "-B", program, json.dumps(settings), *inner]
