"""Limits that a process puts upon itself and all that it starts: resources, and system calls (seccomp)."""

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Iterator

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_FILTER_MODE = 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in `struct seccomp_data`
_NEW_NAMESPACES = 0x7E020000
_X32 = 0x40000000
_AF_UNIX = 1

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Audit architecture, and the place of its numbers below."""

_REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268), "sethostname": (170, 161), "setdomainname": (171, 162),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "personality": (135, 92), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "syslog": (103, 116),
    "quotactl": (179, 60), "acct": (163, 89), "swapon": (167, 224), "reboot": (169, 142),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
}  # fmt: skip
"""System calls that reach other processes or namespaces, hold memory that no limit counts, or are seldom used
and often at fault; numbers on x86-64 and on 64-bit ARM."""

_SOCKET, _CLONE, _CLONE3 = (41, 198), (56, 220), (435, 435)


def limit_resources(*, memory_bytes: int, processes: int, file_bytes: int, cpu_seconds: int) -> None:
    """Set limits that neither this process nor its children can raise."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_NOFILE: 128,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def refuse_system_calls() -> None:
    """Refuse dangerous system calls from now on; raise OSError where the kernel or machine has no filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(_program(os.uname().machine))
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    for option, first, second in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _FILTER_MODE, ctypes.create_string_buffer(program)),
    ):
        if libc.prctl(option, first, second, 0, 0):
            raise OSError(ctypes.get_errno(), "the kernel refuses a filter of system calls (seccomp)")


def _program(machine: str) -> Iterator[bytes]:
    """Yield the instructions of the filter (Berkeley packet filter)."""
    if machine not in _MACHINES or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"no filter of system calls is known for {machine}")
    architecture, place = _MACHINES[machine]
    refused = _ERRNO | errno.EPERM
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield from _refuse(_AT_LEAST, _X32, refused)
    for numbers in _REFUSED.values():
        yield from _refuse(_EQUAL, numbers[place], refused)
    yield from _refuse(_EQUAL, _CLONE3[place], _ERRNO | errno.ENOSYS)  # libraries fall back to clone
    yield _instruction(_EQUAL, _CLONE[place], 0, 4)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield from _refuse(_ANY_BIT, _NEW_NAMESPACES, refused)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_EQUAL, _SOCKET[place], 0, 3)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_EQUAL, _AF_UNIX, 1, 0)
    yield _instruction(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    yield _instruction(_RETURN, _ALLOW)


def _refuse(test: int, value: int, answer: int) -> Iterator[bytes]:
    yield _instruction(test, value, 0, 1)
    yield _instruction(_RETURN, answer)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
