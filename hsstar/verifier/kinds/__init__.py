"""The kinds of verification: a module each, with its settings and its verifier (contract `Verifier`).

A kind imports nothing of ours but the contract and `base`; `SETTINGS` and `make_verifier` are the places that
name all of them.
"""

from hsstar.verifier.contract import Verifier
from hsstar.verifier.kinds.base import KindSettings
from hsstar.verifier.kinds.exact import ExactSettings, ExactVerifier
from hsstar.verifier.kinds.mathematics import MathSettings
from hsstar.verifier.math_verifier import MathVerifier

SETTINGS: dict[str, type[KindSettings]] = {
    settings.kind: settings for settings in (MathSettings, ExactSettings)
}
"""By kind."""


def make_verifier(settings: KindSettings) -> Verifier:
    """Return a new verifier of the kind and with the settings."""
    match settings:
        case MathSettings():
            return MathVerifier()
        case ExactSettings():
            return ExactVerifier(settings)
        case _:
            raise ValueError(f"no verifier of kind {settings.kind!r}")
