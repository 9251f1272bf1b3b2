"""`math`: the final answer is equivalent to the reference as mathematics."""

from dataclasses import dataclass
from typing import ClassVar

from hsstar.verifier.kinds.base import KindSettings


@dataclass(frozen=True, slots=True)
class MathSettings(KindSettings):
    """Nothing to tell: `MathVerifier` has one way."""

    kind: ClassVar[str] = "math"


MATH = MathSettings()
"""The kind where nothing else is said."""
