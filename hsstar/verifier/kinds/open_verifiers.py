"""Verifiers by their settings, opened when first asked for."""

import threading
from collections.abc import Callable

from hsstar.domain.verification import MATH, KindSettings
from hsstar.verifier.contract import Verifier

_MOST = 8
"""Each may have a warm process."""


class OpenVerifiers:
    """Keep one verifier per settings; of more than a few, the one unused for longest is closed."""

    def __init__(self, build: Callable[[KindSettings], Verifier]) -> None:
        self._build = build
        self._open: dict[KindSettings, Verifier] = {}  # the one used last is the last one
        self._taking = threading.Lock()

    def get(self, settings: KindSettings) -> Verifier:
        """Return the verifier of these settings."""
        with self._taking:
            verifier = self._open.pop(settings, None)
            if verifier is None:
                if len(self._open) >= _MOST:
                    self._open.pop(next(iter(self._open))).close()
                verifier = self._build(settings)
            self._open[settings] = verifier
            return verifier

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()


class OneVerifier(OpenVerifiers):
    """Keep one verifier, which is taken whatever the settings, and close it once."""

    def __init__(self, verifier: Verifier) -> None:
        super().__init__(lambda settings: verifier)

    def get(self, settings: KindSettings) -> Verifier:
        """Return the verifier."""
        return super().get(MATH)
