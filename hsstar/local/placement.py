"""The worker processes that roles and GPUs of a command line ask for. Pure: the GPUs are passed in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hsstar.domain.errors import BadInputError

GPU_ROLES = ("sample", "score", "train", "all")
ROLES = ("sample", "score", "verify", "train", "all")


@dataclass(frozen=True, slots=True)
class PlannedWorker:
    """One worker process, named by its role and its GPUs or a number; without `gpus` it works on the CPU."""

    name: str
    role: str
    gpus: tuple[str, ...] = ()

    def environment(self, environ: Mapping[str, str], threads: int) -> dict[str, str]:
        """Return its variables on top of `environ`, whose thread settings take precedence."""
        wanted = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        if self.gpus:
            wanted["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's order, in which the GPUs were found
        kept = {variable: value for variable, value in wanted.items() if not environ.get(variable)}
        return kept | {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}


def parse_roles(text: str) -> dict[str, int | None]:
    """Parse `sample=6,verify` into processes per role, None without a number; raise BadInputError."""
    counts: dict[str, int | None] = {}
    for part in map(str.strip, text.split(",")):
        role, sign, number = part.partition("=")
        if role not in ROLES or (sign and not number.isdecimal()):
            raise BadInputError(f"{part!r} is not ROLE or ROLE=NUMBER with a role of {', '.join(ROLES)}")
        if role in counts:
            raise BadInputError(f"the role {role} is named twice in {text!r}")
        counts[role] = int(number) if sign else None
    return counts


def choose_gpus(text: str, present: Sequence[str]) -> tuple[str, ...]:
    """Parse `all`, `none` or `0,1` into GPUs; raise BadInputError if one is not present or named twice."""
    if text in ("all", "none"):
        return tuple(present) if text == "all" else ()
    chosen = tuple(map(str.strip, text.split(",")))
    for gpu, times in Counter(chosen).items():
        if gpu not in present:
            raise BadInputError(f"there is no GPU {gpu!r} here; there {_list(present)}")
        if times > 1:
            raise BadInputError(f"GPU {gpu} is named twice in {text!r}")
    return chosen


def plan_workers(
    roles: Mapping[str, int | None], gpus: Sequence[str], gpus_each: Mapping[str, int]
) -> tuple[PlannedWorker, ...]:
    """Return the processes of these roles, each with GPUs of its own; without GPUs they work on the CPU.

    If only one role has no number (None), it takes the GPUs that the others leave. If several have none, each
    gets one process. `gpus_each` says how many GPUs a process of a role gets, if more than one. Raise
    BadInputError if the roles need more than `gpus`, or ask for no process.
    """
    needs = {role: gpus_each.get(role, 1) if gpus and role in GPU_ROLES else 0 for role in roles}
    counts = {role: 1 if count is None else count for role, count in roles.items()}
    if not any(counts.values()):
        raise BadInputError("these roles ask for no worker: each has the number 0")
    open_roles = [role for role, count in roles.items() if count is None and needs[role]]
    if len(open_roles) == 1:
        (role,) = open_roles
        taken = sum(counts[other] * needs[other] for other in roles if other != role)
        counts[role] = max(1, (len(gpus) - taken) // needs[role])
    wanted = sum(counts[role] * needs[role] for role in roles)
    if wanted > len(gpus):
        asked = ",".join(f"{role}={counts[role]}" for role in roles if needs[role] * counts[role])
        raise BadInputError(f"{asked} would take {wanted} GPUs, and there {_list(gpus)}")
    free = iter(gpus)
    return tuple(
        _worker(role, number, tuple(next(free) for _ in range(needs[role])))
        for role in roles
        for number in range(1, counts[role] + 1)
    )


def _worker(role: str, number: int, gpus: tuple[str, ...]) -> PlannedWorker:
    devices = [f"gpu{gpu}" if gpu.isdecimal() else gpu.replace("/", "_") for gpu in gpus]
    return PlannedWorker("-".join([role, *(devices or [f"cpu{number}"])]), role, gpus)


def _list(gpus: Sequence[str]) -> str:
    if not gpus:
        return "is none"
    return f"{'is' if len(gpus) == 1 else 'are'} {len(gpus)}: {', '.join(gpus)}"
