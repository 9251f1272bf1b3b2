"""Run checks beside each other within a time; each fails alone."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hsstar.domain.errors import HsstarError
from hsstar.domain.findings import Finding, Level


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing to find out, under the name that its failure is reported by."""

    name: str
    look: Callable[[], Iterable[Finding]]


def examine(probes: Sequence[Probe], seconds: float) -> list[Finding]:
    """Return the findings of all probes, in their order; a probe that is not done in time has failed."""
    deadline = time.monotonic() + seconds
    findings: list[list[Finding]] = [[] for _ in probes]
    threads = [
        threading.Thread(target=_collect, args=(probe, of_probe), daemon=True)
        for probe, of_probe in zip(probes, findings, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread, probe, of_probe in zip(threads, probes, findings, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            of_probe.append(Finding(Level.FAIL, probe.name, f"no answer within {seconds:g} s"))
    return [finding for of_probe in findings for finding in of_probe]


def _collect(probe: Probe, findings: list[Finding]) -> None:
    try:
        for finding in probe.look():
            findings.append(finding)
    except HsstarError as error:
        findings.append(Finding(Level.FAIL, probe.name, str(error)))
    except Exception as error:  # a probe that breaks must not hide the others
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        findings.append(Finding(Level.FAIL, probe.name, reason))
