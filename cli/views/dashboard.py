"""The view of a run that one leaves open: it fits whatever size the terminal has."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from textwrap import wrap

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from hsstar.cli.text import visible
from hsstar.cli.views.bars import level_line, progress_bar
from hsstar.cli.views.output import duration
from hsstar.cli.views.progress_lines import round_lines, time_left
from hsstar.cli.views.samples import sample_lines
from hsstar.domain.lifecycle import IterationState
from hsstar.insights.progress import round_name
from hsstar.insights.watch import SPEED_SECONDS, RunLook
from hsstar.store.read.overview import WorkerSummary
from hsstar.store.read.progress import RoundProgress

_LABEL = 11  # columns of the names of bars
_FIGURES = 24  # columns behind a bar
_WIDEST_BAR = 60
_LEAST_BAR = 8
_COLOURS = {"busy": "green", "idle": "", "lost": "bold red", "stopping": "yellow"}


@dataclass
class Dashboard:
    """Shows a look at a run; `notice` is what stands in the way of the next one."""

    run: str
    look: RunLook | None = None
    elapsed: float = 0.0
    notice: str | None = None
    footer: str = "Ctrl-C ends this view only"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield as many lines as there are rows, none wider than the terminal."""
        width, height = options.max_width, options.height or console.height
        for line in self.lines(width, height):
            line.truncate(width, overflow="ellipsis")
            yield line

    def lines(self, width: int, height: int) -> list[Text]:
        """Return the lines of the view; what matters least is left out where the terminal is low."""
        if self.look is None:
            sections = [_Section([Text(f"run {self.run}")], 0)]
        else:
            look = self.look
            sections = [
                _Section([self._head(look)], 0),
                _Section(list(_open_rounds(look, width)), 1),
                _Section(list(_done_rounds(look)), 4),
                _Section(list(_workers(look.workers)), 3),
                _Section([part for line in look.warnings for part in _wrapped(line, width, "yellow")], 2),
                _Section(list(_sample(look)), 5),
            ]
        foot = [Text(self.footer, "dim")]
        if self.notice is not None:
            foot = [*_wrapped(self.notice, width, "bold yellow"), *foot]
        return [*_fitted(sections, height - len(foot)), *foot][:height]

    def _head(self, look: RunLook) -> Text:
        parts = [f"watched for {duration(self.elapsed)}"]
        if look.tokens_per_second is not None:
            parts.append(f"{look.tokens_per_second:,.0f} tokens/s in the last {SPEED_SECONDS:.0f} s")
        if look.left is not None:
            parts.append(time_left(look.left))
        return Text.assemble((f"run {visible(self.run)}", "bold"), f"  {' · '.join(parts)}")


@dataclass
class _Section:
    """Lines of one kind; those of the highest rank are cut first."""

    lines: list[Text]
    rank: int


def _wrapped(text: str, width: int, style: str) -> list[Text]:
    """Return a text that is to be read whole, in as many lines as it takes."""
    return [Text(line, style) for line in wrap(visible(text), width, subsequent_indent="  ")]


def _fitted(sections: list[_Section], height: int) -> Iterable[Text]:
    """Return the lines of all sections, cut to the height; a cut section says how much is left out."""
    room = max(0, height)
    kept: dict[int, list[Text]] = {}
    for section in sorted(sections, key=lambda section: section.rank):
        lines = section.lines
        if len(lines) > room:
            hidden = len(lines) - room + 1
            lines = [*lines[: room - 1], Text(f"… and {hidden} lines more", "dim")] if room else []
        kept[id(section)] = lines
        room -= len(lines)
    return (line for section in sections for line in kept[id(section)])


def _open_rounds(look: RunLook, width: int) -> Iterator[Text]:
    for row in look.progress.rounds:
        if row.done or row.state == IterationState.WAITING:
            continue
        name = visible(round_name(row))
        yield Text.assemble((name, "bold"), f"  {row.state.replace('_', '-')}{_numbers(row)}")
        yield from _bars(row, max(_LEAST_BAR, min(_WIDEST_BAR, width - _LABEL - _FIGURES)))


def _numbers(row: RoundProgress) -> str:
    parts = [f"correct {row.correct / row.verified:.0%}"] if row.verified else []
    if row.waves:
        parts.append(f"wave {row.waves}")
    if row.pairs:
        parts.append(f"{row.pairs} pairs")
    if row.failed:
        parts.append(f"{row.failed} jobs failed")
    return "".join(f"  {part}" for part in parts)


def _bars(row: RoundProgress, width: int) -> Iterator[Text]:
    whole = row.budget or row.allotted
    stages = [("sampled", row.drawn, whole), ("verified", row.verified, whole)]
    if row.scored:
        stages.append(("scored", row.scored, whole))
    if row.training_steps:
        stages.append(("trained", row.training_steps_done, row.training_steps))
    for name, done, of in stages:
        bar = progress_bar(done, of, width)
        yield Text.assemble(f"  {name:{_LABEL - 2}}", bar, f"  {done:,}/{of:,}")
    levels = (row.inlier, row.boundary, row.outlier)
    if any(levels):
        yield Text.assemble(f"  {'levels':{_LABEL - 2}}", level_line(levels, width))


def _done_rounds(look: RunLook) -> Iterator[Text]:
    rounds = look.progress.rounds
    lines = round_lines(rounds, held=look.progress.hold is not None)
    rest = [
        line
        for row, line in zip(rounds, lines, strict=True)
        if row.done or row.state == IterationState.WAITING
    ]
    yield from (Text(visible(line), "dim") for line in reversed(rest))


def _workers(workers: list[WorkerSummary]) -> Iterator[Text]:
    if not workers:
        yield Text("no worker is registered; start some: hsstar up, or hsstar worker", "yellow")
        return
    counts = [
        f"{sum(worker.state == state for worker in workers)} {state}"
        for state in _COLOURS
        if any(worker.state == state for worker in workers)
    ]
    yield Text.assemble(("workers", "bold"), f"  {', '.join(counts)}")
    longest = max(len(worker.worker) for worker in workers)
    for worker in sorted(workers, key=lambda worker: (worker.state != "lost", worker.worker)):
        yield Text.assemble(
            f"  {visible(worker.worker):{longest}}  ",
            (f"{worker.state:8}", _COLOURS.get(worker.state, "")),
            visible(f"  {_doing(worker)}"),
        )


def _doing(worker: WorkerSummary) -> str:
    parts = []
    if worker.job is not None and worker.since is not None:
        since = (datetime.now(worker.since.tzinfo) - worker.since).total_seconds()
        others = f" and {worker.jobs - 1} more" if worker.jobs > 1 else ""
        parts.append(f"{worker.job_kind} job {worker.job}{others} for {duration(max(0.0, since))}")
    if worker.tokens_done:
        parts.append(f"{worker.tokens_done:,} tokens")
    if worker.gpu is not None:
        parts.append(f"GPU {worker.gpu}")
    if worker.note is not None:
        parts.append(worker.note)
    return " · ".join(parts)


def _sample(look: RunLook) -> Iterator[Text]:
    if look.sample is None:
        return
    yield Text(visible(f"newest: {' '.join(look.sample.statement.split())}"), "bold")
    for line in sample_lines(look.sample):
        yield from line.split("\n")
