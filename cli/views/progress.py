"""The progress of a run as lines and as a live view."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Group
from rich.live import Live
from rich.text import Text

from hsstar.cli.text import visible
from hsstar.cli.views.output import PlainConsole, console, duration, error_console
from hsstar.domain.lifecycle import IterationState
from hsstar.insights.iterations import fault_lines
from hsstar.insights.progress import (
    Pace,
    RunProgress,
    evaluation_name,
    patiently,
    run_progress,
    waiting_reasons,
)
from hsstar.insights.runs import find_run
from hsstar.store.database import Database
from hsstar.store.read.progress import RoundProgress

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 5.0


def round_lines(progress: Sequence[RoundProgress], *, held: bool = False) -> list[str]:
    """Return one line per round: its state, with counts per stage; `held`: no iteration starts."""
    states = {row.number: row.state for row in progress if row.kind == "iteration"}
    return [
        _iteration_line(row, states.get(row.number - 1), held=held)
        if row.kind == "iteration"
        else _evaluation_line(row)
        for row in progress
    ]


def _iteration_line(row: RoundProgress, state_before: str | None, *, held: bool) -> str:
    head = f"iteration {row.number}  {row.state.replace('_', '-'):12}"
    if row.state == IterationState.WAITING:
        ready = state_before in (None, IterationState.EVALUATING, IterationState.DONE)
        if ready:
            return f"{head}  {'waits until the run is resumed' if held else 'about to start'}"
        return f"{head}  waits for iteration {row.number - 1}"
    parts = [f"samples {row.drawn}/{row.budget}"]
    if row.waves > 1:
        parts.append(f"wave {row.waves}")
    if row.state in (IterationState.PRE_SAMPLING, IterationState.RE_SAMPLING):
        parts.append(f"verified {row.verified}")
        parts += [f"scored {row.scored}"] if row.scored else []
    if row.verified:
        parts.append(f"correct {row.correct / row.verified:.0%}")
    if row.cut:
        parts.append(f"cut {row.cut / row.drawn:.0%}")
    if row.no_answer:
        parts.append(f"no answer {row.no_answer / row.verified:.0%}")
    if row.mean_tokens:
        parts.append(f"{row.mean_tokens:.0f} tokens each")
    if row.inlier + row.boundary + row.outlier:
        parts.append(f"inlier {row.inlier} · boundary {row.boundary} · outlier {row.outlier}")
    if row.pairs:
        problems = f"of {row.problems_with_pair} problems"
        parts.append(f"pairs {row.pairs} ({row.distinct_pairs} different, {problems})")
    if row.rows_trained:
        parts.append(f"trained on {row.rows_trained} rows in {row.training_steps_done} steps")
    elif row.training_steps:
        parts.append(f"training step {row.training_steps_done}/{row.training_steps}")
    return f"{head}  " + ", ".join(parts + _trouble(row))


def _evaluation_line(row: RoundProgress) -> str:
    head = f"M_{row.number} {evaluation_name(row)}  {row.state:9}"
    if row.accuracy is not None:
        tokens = f", {row.mean_tokens:.0f} tokens each" if row.mean_tokens else ""
        return f"{head}  accuracy {row.accuracy:.3f} ± {row.standard_error or 0:.3f}{tokens}"
    return f"{head}  " + ", ".join(
        [f"samples {row.drawn}/{row.allotted}", f"verified {row.verified}", *_trouble(row)]
    )


def _trouble(row: RoundProgress) -> list[str]:
    parts = []
    if row.excluded:
        parts.append(f"{row.excluded} problems left out")
    if row.failed:
        parts.append(f"{row.failed} jobs failed")
    return parts


class Watch:
    """Shows the progress of a run, or of its rounds of a kind, until it is done, held, or stuck."""

    def __init__(
        self, database: Database, run: str, kind: str | None = None, *, to_stderr: bool = False
    ) -> None:
        self._database = database
        self._kind = kind
        self._run = find_run(database, run)
        self._console = error_console if to_stderr else console
        self._pace = Pace()

    def follow(self) -> RunProgress:
        """Show the progress until the end; return the last one."""
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        return self._follow_live() if live else self._follow_by_lines()

    def _follow_live(self) -> RunProgress:
        with Live(console=PlainConsole(stderr=self._console.stderr), refresh_per_second=4) as live:
            while True:
                progress = self._progress(live.console.print)
                live.update(self._view(progress))
                if progress.state != "running":
                    return progress
                time.sleep(_REFRESH_SECONDS)

    def _follow_by_lines(self) -> RunProgress:
        shown: list[str] = []
        last = 0.0
        while True:
            progress = self._progress(self._console.print)
            ended = progress.state != "running"
            if ended or time.monotonic() - last >= _LINE_SECONDS:
                reasons = self._reasons(progress)
                lines = self._lines(progress) + reasons
                for line in lines:
                    if line not in shown:
                        self._console.print(line if line in reasons else f"{line}{self._left(progress)}")
                shown, last = lines, time.monotonic()
                sys.stdout.flush()
            if ended:
                return progress
            time.sleep(_REFRESH_SECONDS)

    def _progress(self, tell: Callable[[str], None]) -> RunProgress:
        progress = patiently(lambda: run_progress(self._database, self._run), tell)
        if self._kind is None:
            return progress
        return replace(progress, rounds=[row for row in progress.rounds if row.kind == self._kind])

    def _view(self, progress: RunProgress) -> Group:
        lines = [Text(visible(line)) for line in self._lines(progress)]
        reasons = [Text(visible(reason), style="yellow") for reason in self._reasons(progress)]
        elapsed = duration(self._pace.elapsed)
        footer = f"run {self._run.name}, {elapsed}{self._left(progress)}; Ctrl-C ends this view only"
        return Group(*lines, *reasons, Text(footer))

    def _lines(self, progress: RunProgress) -> list[str]:
        return round_lines(progress.rounds, held=progress.hold is not None)

    def _reasons(self, progress: RunProgress) -> list[str]:
        return fault_lines(self._run, progress.rounds) + waiting_reasons(progress.queues)

    def _left(self, progress: RunProgress) -> str:
        seconds = self._pace.seconds_left(progress.rounds)
        return "" if seconds is None else f", about {duration(seconds)} left"
