"""The processes of verifiers below a process."""

import psutil


def living_children(parent: psutil.Process) -> list[psutil.Process]:
    return [child for child in parent.children() if child.status() != psutil.STATUS_ZOMBIE]


def warm_processes(parent: int | None = None) -> list[psutil.Process]:
    children = living_children(psutil.Process(parent))
    return [child for child in children if "hsstar.verifier.process" in " ".join(child.cmdline())]


def checking_processes(parent: int | None = None) -> list[psutil.Process]:
    return [child for warm in warm_processes(parent) for child in living_children(warm)]


def processor_seconds() -> float:
    """Return the processor time of all checking processes below this process, ended ones included."""
    warm = sum(sum(process.cpu_times()[:4]) for process in warm_processes())
    return warm + sum(sum(process.cpu_times()[:2]) for process in checking_processes())
