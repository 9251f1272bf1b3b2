"""How many examples generated tests draw: all of them by their mark, a share in the ordinary suite.

`pytest -m hypothesis`, and so `make test-heavy`, takes the profile `full`; any other session `quick`.
"""

from hypothesis import HealthCheck, settings

_FULL, _QUICK = 100, 20


def register_profiles() -> None:
    """Make both profiles known."""
    # generated tests share the processors with others: how long an example takes says nothing
    settings.register_profile(
        "full", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=_FULL
    )
    settings.register_profile("quick", settings.get_profile("full"), max_examples=_QUICK)


def examples(full: int) -> settings:
    """Draw another number than usual: so many by the profile `full`, and the same share by `quick`."""
    return settings(max_examples=max(1, full * settings().max_examples // _FULL))
