"""What a check found out, in `hsstar doctor` and `hsstar plan`."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is: after `FAIL` something does not work or does not fit."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report: how bad it is, what was checked, and what was found."""

    level: Level
    name: str
    text: str
