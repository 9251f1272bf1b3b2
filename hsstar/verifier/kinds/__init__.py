"""The kinds of verification: a module each with its verifier (contract `Verifier`).

A kind imports the contract, what runs its checks, and the modules here that kinds share. Their settings are
in `hsstar.domain.verification`, so that reading a recipe loads no verifier.
"""

from dataclasses import MISSING, fields

from hsstar.domain.verification import (
    SETTINGS,
    ChoiceSettings,
    CodeSettings,
    ExactSettings,
    GymSettings,
    JsonSettings,
    JudgeSettings,
    KindSettings,
    MathSettings,
    NumericSettings,
    PythonSettings,
    RegexSettings,
)
from hsstar.verifier.contract import Verifier
from hsstar.verifier.kinds.choice import ChoiceVerifier
from hsstar.verifier.kinds.code import CodeVerifier
from hsstar.verifier.kinds.exact import ExactVerifier
from hsstar.verifier.kinds.gym import GymVerifier
from hsstar.verifier.kinds.json_value import JsonVerifier
from hsstar.verifier.kinds.judge import JudgeVerifier
from hsstar.verifier.kinds.numeric import NumericVerifier
from hsstar.verifier.kinds.pooled import PooledVerifier
from hsstar.verifier.kinds.python import PythonVerifier
from hsstar.verifier.kinds.regex import RegexVerifier
from hsstar.verifier.math_verifier import MathVerifier

__all__ = [
    "ChoiceSettings",
    "CodeSettings",
    "ExactSettings",
    "GymSettings",
    "JsonSettings",
    "JudgeSettings",
    "KindSettings",
    "MathSettings",
    "NumericSettings",
    "PythonSettings",
    "RegexSettings",
    "check_settings",
    "make_verifier",
    "settings_for_references",
]


def make_verifier(settings: KindSettings, processes: int | None = None) -> Verifier:
    """Return a new verifier; `processes`: at most so many checking processes, by default one per core."""
    match settings:
        case MathSettings():
            return MathVerifier(processes)
        case ChoiceSettings():
            return ChoiceVerifier(settings, processes)
        case ExactSettings():
            return ExactVerifier(settings, processes)
        case NumericSettings():
            return NumericVerifier(settings, processes)
        case RegexSettings():
            return RegexVerifier(settings, processes)
        case JsonSettings():
            return JsonVerifier(settings, processes)
        case GymSettings():
            return GymVerifier(settings, processes)
        case PythonSettings():
            return PythonVerifier(settings, processes)
        case CodeSettings():
            return CodeVerifier(settings, processes)
        case JudgeSettings():
            return JudgeVerifier(settings)
        case _:
            raise ValueError(f"no verifier of kind {settings.kind!r}")


def check_settings(settings: KindSettings) -> None:
    """Load what a kind needs; raise EngineError or BadInputError, in one line, if that is not there."""
    verifier = make_verifier(settings, 1)
    try:
        if isinstance(verifier, PooledVerifier):
            verifier.check()
    finally:
        verifier.close()


def settings_for_references(kind: str) -> KindSettings:
    """Return settings that examine the references of a kind, before a recipe says more.

    A kind that needs more than its name takes any reference that is not empty, as `exact` does.
    """
    settings = SETTINGS[kind]
    needs_more = any(field.default is MISSING for field in fields(settings))
    return ExactSettings() if needs_more else settings()
