"""What a check says, and how checks run beside each other within a time."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.errors import HsstarError


class Level(StrEnum):
    """How bad it is: `FAIL` keeps hsstar from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    level: Level
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to find out, under the name that its failure is reported by."""

    name: str
    look: Callable[[], Iterable[Finding]]


def examine(checks: Sequence[Check], seconds: float) -> list[Finding]:
    """The findings of all checks, in their order; one that is not done in time is a failure itself."""
    deadline = time.monotonic() + seconds
    found: list[list[Finding]] = [[] for _ in checks]
    threads = [
        threading.Thread(target=_collect, args=(check, findings), daemon=True)
        for check, findings in zip(checks, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread, check, findings in zip(threads, checks, found, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            findings.append(Finding(Level.FAIL, check.name, f"no answer within {seconds:g} s"))
    return [finding for findings in found for finding in findings]


def _collect(check: Check, findings: list[Finding]) -> None:
    try:
        for finding in check.look():
            findings.append(finding)
    except HsstarError as error:
        findings.append(Finding(Level.FAIL, check.name, str(error)))
    except Exception as error:  # a check that breaks must not hide the others
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        findings.append(Finding(Level.FAIL, check.name, reason))
