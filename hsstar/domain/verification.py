"""What the kinds of verification are told: settings as a recipe has them, plain values without a verifier."""

from dataclasses import dataclass
from typing import ClassVar, Literal

DEFAULT_RUBRIC = """\
Decide whether the response solves the problem.
Its final answer must agree with the reference answer in meaning; another form of the same answer is correct.
Where the reference is a description of what is wanted, the response must meet every part of it.
Do not solve the problem again if the reference decides it. Judge the content, not style or length."""

Signature = Literal["auto", "hsstar", "trl", "trl-text", "verl", "verifiers"]


@dataclass(frozen=True, slots=True)
class KindSettings:
    """What a kind of verification is told; its fields are the recipe's keys beside `kind`.

    Settings that are equal give the same verifier.
    """

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True)
class TextSettings(KindSettings):
    """How the answer is found."""

    extract: str | None = None
    """A regular expression whose last match, of it the first group, is the answer; None: the final answer."""


@dataclass(frozen=True, slots=True)
class MathSettings(KindSettings):
    """Nothing to tell: `MathVerifier` has one way."""

    kind: ClassVar[str] = "math"


MATH = MathSettings()
"""The kind where nothing else is said."""


@dataclass(frozen=True, slots=True)
class ChoiceSettings(TextSettings):
    """Nothing to tell beside how the answer is found."""

    kind: ClassVar[str] = "choice"


@dataclass(frozen=True, slots=True)
class ExactSettings(TextSettings):
    """Which differences between two texts do not count."""

    kind: ClassVar[str] = "exact"
    ignore_case: bool = False
    ignore_spaces: bool = True
    """White space at the ends goes, and any within counts as one space."""


@dataclass(frozen=True, slots=True)
class NumericSettings(TextSettings):
    """How near is near enough: within either of the two tolerances."""

    kind: ClassVar[str] = "numeric"
    relative_tolerance: float = 1e-6
    """Of the reference's absolute value."""
    absolute_tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class RegexSettings(KindSettings):
    """What the pattern is."""

    kind: ClassVar[str] = "regex"
    pattern: str | None = None
    """Its last match in the response, of it the first group, has to be the reference; None: the reference is
    a pattern, which has to match all of the final answer."""
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class JsonSettings(TextSettings):
    """What of two values is compared."""

    kind: ClassVar[str] = "json"
    keys: tuple[str, ...] = ()
    """Keys of an object that count; a dot leads into an object within. Empty: all of the value."""


@dataclass(frozen=True, slots=True)
class GymSettings(KindSettings):
    """From which score an answer is correct, and what a score may take."""

    kind: ClassVar[str] = "gym"
    threshold: float = 1.0
    deadline_seconds: float = 10.0
    memory_limit_mb: int = 2048


@dataclass(frozen=True, slots=True)
class PythonSettings(KindSettings):
    """Which function, and what it may take."""

    kind: ClassVar[str] = "python"
    function: str
    """`FILE.py:NAME`, `MODULE:NAME`, or the name of an entry point of the group `hsstar.verifiers`."""
    source: str | None = None
    """The text of the file."""
    signature: Signature = "auto"
    """How it is called; `auto`: as the names of its parameters say."""
    data_source: str = ""
    """What a function of verl gets as `data_source`."""
    threshold: float | None = None
    """From which number a response is correct."""
    deadline_seconds: float = 10.0
    """Processor time for one response; ten times as long by the clock."""
    memory_limit_mb: int = 4096


@dataclass(frozen=True, slots=True)
class CodeSettings(KindSettings):
    """What a program may use for one test."""

    kind: ClassVar[str] = "code"
    deadline_seconds: float = 6.0  # of processor time
    memory_limit_mb: int = 512


@dataclass(frozen=True, slots=True)
class JudgeSettings(KindSettings):
    """Which model judges, by what, and how it is asked."""

    kind: ClassVar[str] = "judge"
    base_url: str
    model: str
    rubric: str = DEFAULT_RUBRIC
    temperature: float = 0.0
    max_tokens: int = 1024
    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6


SETTINGS: dict[str, type[KindSettings]] = {
    settings.kind: settings
    for settings in (
        MathSettings,
        ChoiceSettings,
        ExactSettings,
        NumericSettings,
        RegexSettings,
        JsonSettings,
        GymSettings,
        PythonSettings,
        CodeSettings,
        JudgeSettings,
    )
}
"""By kind."""


def file_of(function: str) -> str | None:
    """Return the path in `FILE.py:NAME`; None for a function of a module."""
    path, colon, _ = function.rpartition(":")
    return path if colon and path.endswith(".py") else None
