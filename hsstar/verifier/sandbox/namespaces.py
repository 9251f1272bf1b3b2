"""Start a command in namespaces of its own, without bubblewrap; a program of the standard library alone.

    python -I -S namespaces.py '{"parent": 7, "binds": [["/usr", "/usr"]], …}' COMMAND …

Three processes stand between the caller and the command. The first stays outside and says which users exist
inside. The second leaves all namespaces and builds the file system: an empty, read-only one with the bound
folders, a few devices, and `/tmp`. The third is the first process of the new process namespace; with it
the kernel ends whatever the command has left behind. Each ends with the one before it.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_NEW_MOUNTS, _NEW_CGROUP, _NEW_UTS, _NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_ATTRIBUTES_READ_ONLY, _ATTRIBUTES_NO_SETUID, _ATTRIBUTES_NO_DEVICES = 1, 2, 4
_DETACH, _HERE, _TO_ALL_BELOW, _EMPTY_PATH, _CLONE, _FROM_DESCRIPTOR = 2, -100, 0x8000, 0x1000, 1, 4
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
_CAPABILITIES_VERSION = 0x20080522

USER = 1000
OTHER_USERS = (2_000_000_000, 65_534)
"""Who root's programs are outside, the first that exists: nobody to whom anything belongs."""
DEVICES = ("null", "zero", "full", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Run the command; exit as it does."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    _die_with(settings["parent"])
    ours, theirs = socket.socketpair()
    outside = os.getpid()
    child = os.fork()
    if not child:
        ours.close()
        _die_with(outside)
        _enter(theirs, settings, sys.argv[2:])
    theirs.close()
    if ours.recv(1):
        _map_users(child)
        ours.send(b".")
    ours.close()
    _exit_as(child)


def _enter(outside: socket.socket, settings: dict[str, Any], command: Sequence[str]) -> NoReturn:
    flags = _NEW_USER | _NEW_MOUNTS | _NEW_PROCESSES | _NEW_NETWORK | _NEW_IPC | _NEW_UTS | _NEW_CGROUP
    before = os.getppid()
    _call("unshare", flags)
    outside.send(b".")
    if not outside.recv(1):
        sys.exit("the users of the namespace were not set")
    trees = _open_trees(settings)
    if os.getuid() != USER:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    _build_file_system(settings, trees)
    name = b"sandbox"
    _call("sethostname", name, len(name))
    _give_up_capabilities()
    _die_with(before)
    first, second = socket.socketpair()
    child = os.fork()
    if not child:
        first.close()
        _call("prctl", _DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        second.send(b".")
        if not second.recv(1):  # the parent was gone before the kernel knew
            os._exit(1)
        second.close()
        _be_first_process(command)
    second.close()
    first.recv(1)
    first.send(b".")
    first.close()
    _exit_as(child)


def _be_first_process(command: Sequence[str]) -> NoReturn:
    """Start the command, collect all that ends, and end with the command."""
    child = os.fork()
    if not child:
        os.setsid()
        os.execv(command[0], list(command))  # noqa: S606  # the sandbox is what makes it safe
    while True:
        ended, status = os.wait()
        if ended == child:
            os._exit(_code(status))


def _open_trees(settings: dict[str, Any]) -> list[tuple[str, bool, int]]:
    """Return copies of what is bound: where it will stand, whether it is a folder, and its file descriptor.

    Root opens them as root, because its home may be closed to the user who runs the program.
    """
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    closed = _ATTRIBUTES_READ_ONLY | _ATTRIBUTES_NO_SETUID | _ATTRIBUTES_NO_DEVICES
    wanted = [(source, target, closed) for source, target in settings["binds"]]
    wanted += [(f"/dev/{name}", f"/dev/{name}", _ATTRIBUTES_NO_SETUID) for name in DEVICES]
    return [(target, Path(source).is_dir(), _open_tree(source, given)) for source, target, given in wanted]


def _open_tree(source: str, attributes: int) -> int:
    tree: int = libc.syscall(_OPEN_TREE, _HERE, source.encode(), _CLONE | _TO_ALL_BELOW)
    if tree < 0:
        _fail("open_tree", (source.encode(),))
    given = (ctypes.c_uint64 * 4)(attributes)
    _call_number(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH | _TO_ALL_BELOW, given, ctypes.sizeof(given))
    return tree


def _build_file_system(settings: dict[str, Any], trees: Sequence[tuple[str, bool, int]]) -> None:
    """Put an empty, read-only root with the bound folders in place of everything."""
    _mount("tmpfs", "/tmp", "tmpfs", _NO_SETUID | _NO_DEVICES, "size=1m,mode=755")  # noqa: S108
    os.chdir("/tmp")  # noqa: S108
    _call_number(_PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")
    for target, is_folder, tree in trees:
        place = Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if is_folder else place.touch()
        _call_number(_MOVE_MOUNT, tree, b"", _HERE, target.encode(), _FROM_DESCRIPTOR)
        os.close(tree)
    for link, target in settings["links"]:
        Path(link).symlink_to(target)
    Path("/tmp").mkdir()  # noqa: S108
    size = f"size={settings['temporary_bytes']},nr_inodes=4096,mode=1777"
    _mount("tmpfs", "/tmp", "tmpfs", _NO_SETUID | _NO_DEVICES, size)  # noqa: S108
    _mount("none", "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SETUID | _NO_DEVICES)
    os.chdir("/tmp")  # noqa: S108


def _map_users(child: int) -> None:
    """Say who the user of the namespace is outside: for root somebody else, else the caller."""
    folder = Path(f"/proc/{child}")
    if os.getuid():
        (folder / "setgroups").write_text("deny")
    for file, mine in (("gid_map", os.getgid()), ("uid_map", os.getuid())):
        ids = (mine,) if os.getuid() else OTHER_USERS
        for index, number in enumerate(ids):
            try:
                (folder / file).write_text(f"{USER} {number} 1")
                break
            except OSError:
                if index == len(ids) - 1:
                    raise


def _give_up_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _die_with(parent: int) -> None:
    """Let the kernel end this process with its parent; end now if that is gone."""
    _call("prctl", _DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _exit_as(child: int) -> NoReturn:
    os._exit(_code(os.waitpid(child, 0)[1]))


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    names = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", *names[:3], ctypes.c_ulong(flags), names[3])


def _call(name: str, *arguments: Any) -> None:
    if getattr(libc, name)(*arguments):
        _fail(name, arguments)


def _call_number(number: int, *arguments: Any) -> None:
    if libc.syscall(number, *arguments):
        _fail(f"system call {number}", arguments)


def _fail(name: str, arguments: Sequence[Any]) -> NoReturn:
    shown = " ".join(argument.decode() for argument in arguments if isinstance(argument, bytes))
    raise SystemExit(f"{name} {shown}: {os.strerror(ctypes.get_errno())}".replace(" :", ":"))


if __name__ == "__main__":
    main()
