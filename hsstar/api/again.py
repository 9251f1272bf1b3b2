"""Judging and scoring stored samples again, as `hsstar reverify` and `hsstar rescore` do it."""

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TypeVar

from hsstar.commands import rescore as rescoring
from hsstar.commands import reverify as reverifying
from hsstar.commands.rescore import RescoreChange, RescoreReport, RescoreRequest
from hsstar.commands.reverify import Change, ReverifyRequest, RoundReport
from hsstar.settings import Settings
from hsstar.store.database import Database

Item = TypeVar("Item")


def reverify(
    database: Database,
    settings: Settings,
    request: ReverifyRequest,
    verifier: str | None,
    on_change: Callable[[Change], None] | None,
) -> list[RoundReport]:
    """Judge samples again; `on_change` gets what differs."""
    reports: list[RoundReport] = []
    with closing(reverifying.open_verifiers(verifier)) as opened:
        _tell(reverifying.reverify(database, request, opened, settings, reports), on_change)
    return reports


def rescore(
    database: Database, request: RescoreRequest, on_change: Callable[[RescoreChange], None] | None
) -> list[RescoreReport]:
    """Score samples again; `on_change` gets what would differ."""
    reports: list[RescoreReport] = []
    _tell(rescoring.rescore(database, request, reports), on_change)
    return reports


def _tell(changes: Iterable[Item], on_change: Callable[[Item], None] | None) -> None:
    for change in changes:
        if on_change is not None:
            on_change(change)
