"""Follows the progress of a run: a view that fills the terminal, or plain lines."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from rich.live import Live

from hsstar.cli.views.dashboard import Dashboard
from hsstar.cli.views.output import PlainConsole, console, error_console
from hsstar.cli.views.progress_lines import round_lines, time_left
from hsstar.domain.errors import DatabaseError, SchemaError
from hsstar.insights.progress import RunProgress
from hsstar.insights.runs import find_run
from hsstar.insights.watch import RunLook, RunWatch
from hsstar.store.database import Database

_REFRESH_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_LINE_SECONDS = 5.0
_FRAMES = 4  # a second, so that the view follows the size of the terminal
Result = TypeVar("Result")


def patiently(look: Callable[[], Result], tell: Callable[[str], None]) -> Result:
    """Return what a look at the database gives; while that is away, tell so once and wait for it."""
    told = False
    while True:
        try:
            found = look()
        except SchemaError:
            raise
        except DatabaseError as error:
            if not told:
                tell(f"{error}; waiting for it")
            told = True
            time.sleep(_AWAY_SECONDS)
        else:
            if told:
                tell("the database is back")
            return found


class Watch:
    """Shows the progress of a run, or of its rounds of a kind, until it is done, held, or stuck."""

    def __init__(
        self,
        database: Database,
        run: str,
        kind: str | None = None,
        *,
        to_stderr: bool = False,
        with_sample: bool = False,
    ) -> None:
        self._watch = RunWatch(database, find_run(database, run), kind, with_sample=with_sample)
        self._console = error_console if to_stderr else console

    def follow(self) -> RunProgress:
        """Show the progress until the end; return the last one."""
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        return self._follow_live() if live else self._follow_by_lines()

    def _follow_live(self) -> RunProgress:
        """Fill the terminal; leave the last state on it as lines."""
        view = Dashboard(self._watch.run.name)
        screen = PlainConsole(stderr=self._console.stderr)
        try:
            with Live(view, console=screen, refresh_per_second=_FRAMES, screen=True) as live:

                def tell(notice: str) -> None:
                    view.notice = notice
                    live.refresh()

                while True:
                    look = patiently(self._watch.look, tell)
                    view.look, view.elapsed, view.notice = look, self._watch.pace.elapsed, None
                    live.refresh()
                    if look.progress.state != "running":
                        return look.progress
                    time.sleep(_REFRESH_SECONDS)
        finally:
            if view.look is not None:
                for line in (*_lines(view.look), *view.look.warnings):
                    self._console.print(line)

    def _follow_by_lines(self) -> RunProgress:
        shown: list[str] = []
        last = 0.0
        while True:
            look = patiently(self._watch.look, self._console.print)
            ended = look.progress.state != "running"
            if ended or time.monotonic() - last >= _LINE_SECONDS:
                left = "" if look.left is None else f", {time_left(look.left)}"
                states = _lines(look)
                for line in (*states, *look.warnings):
                    if line not in shown:
                        self._console.print(f"{line}{left}" if line in states else line)
                shown, last = states + look.warnings, time.monotonic()
                sys.stdout.flush()
            if ended:
                return look.progress
            time.sleep(_REFRESH_SECONDS)


def _lines(look: RunLook) -> list[str]:
    return round_lines(look.progress.rounds, held=look.progress.hold is not None)
