"""Names of runs, policies and logs as arguments, which a shell completes.

A shell asks by calling `hsstar` with _HSSTAR_COMPLETE, which click reads.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem


class Name(click.ParamType[str]):
    """A name that exists; what a shell completes it by comes from `known`."""

    name = "text"

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        self._known = known

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so; none while they cannot be read."""
        from hsstar.domain.errors import HsstarError

        try:
            return [CompletionItem(name) for name in self._known() if name.startswith(incomplete)]
        except (HsstarError, OSError):
            return []  # a prompt is no place for an error


def _runs() -> list[str]:
    from hsstar.cli.environment import open_database
    from hsstar.store.read.names import run_names

    with open_database() as database, database.begin() as connection:
        return run_names(connection)


def _models() -> list[str]:
    from hsstar.cli.environment import open_database
    from hsstar.store.read.names import model_names

    with open_database() as database, database.begin() as connection:
        return model_names(connection)


def _logs() -> list[str]:
    from hsstar.local.logs import find_logs
    from hsstar.settings import Settings

    return list(find_logs(Settings.from_environment().home / "logs"))


RUN, MODEL, LOG = Name(_runs), Name(_models), Name(_logs)
