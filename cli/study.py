"""`hsstar study`: compare strategies over several seeds, as runs of the same queue."""

import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.stack import parse_workers
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.store.database import Database
    from hsstar.store.read.studies import RunState
    from hsstar.study.document import Study
    from hsstar.study.metrics import RunMetrics

_POLL_SECONDS = 2.0


@click.command(epilog="Example:  hsstar study configs/study.toml --output results")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the report; one named after the study where left out.",
)
@click.option(
    "--at-once", type=click.IntRange(1), help="Runs under way at once; one of each strategy where left out."
)
@click.option(
    "--seed", "seeds", type=int, multiple=True, metavar="SEED", help="Only this seed; may be given again."
)
@click.option(
    "--with",
    "shared",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="NAME-runs.csv",
    help="Runs of other seeds that another machine finished: they join the report. May be given again.",
)
@click.option(
    "--workers",
    default="",
    callback=parse_workers,
    metavar="ROLE[=N],…",
    help="Worker processes per role, as in `hsstar up`.",
)
def study(
    file: Path,
    output: Path | None,
    at_once: int | None,
    seeds: tuple[int, ...],
    shared: tuple[Path, ...],
    workers: dict[str, int],
) -> None:
    """Run the study of FILE: every strategy under every seed, then a table and plots.

    It has a home of its own, HSSTAR_HOME/study/NAME, with its own servers unless the environment names
    others. The next call continues an interrupted study. Of a finished one it only writes the report again.

    Several machines can share a study: each takes some seeds, and the last call joins their tables.
    """
    from hsstar.cli.environment import own_settings
    from hsstar.cli.stack import own_stack
    from hsstar.cli.views.output import console
    from hsstar.domain.errors import MissingDependencyError
    from hsstar.settings import Settings
    from hsstar.study import run
    from hsstar.study.document import load_study
    from hsstar.study.tables import read_runs

    if find_spec("matplotlib") is None:
        raise MissingDependencyError("a study draws plots by matplotlib: pip install 'hsstar[study]'")
    loaded = load_study(file)
    folder = output or Path(loaded.document.name)
    finished = read_runs(shared, loaded)
    elsewhere = {metrics.run.seed for metrics in finished}
    part = loaded.part(set(seeds or loaded.document.seeds) - elsewhere)
    if not part.runs:
        _report(loaded, finished, folder)
        return
    settings = own_settings(Settings.from_environment(), "study", loaded.document.name)
    console.print(f"Starting what is needed in {settings.home} …")
    with own_stack(settings, workers) as database:
        run.check_runs(database, part, settings.models_dir)
        run.prepare_problems(database, part)
        try:
            follow(database, part, at_once or len(loaded.document.strategies), finished, folder)
        except KeyboardInterrupt:
            say("\nThe study is interrupted; it goes on when you call it again.", err=True)
            sys.exit(130)


def follow(
    database: "Database", study: "Study", at_once: int, elsewhere: "list[RunMetrics]", folder: Path
) -> None:
    """Keep `at_once` runs under way until all are finished; write the report whenever a seed is complete.

    The report covers the runs that finished elsewhere too.

    Raise ConflictError if every unfinished run is held or held up by failed jobs.
    """
    from hsstar.cli.views.output import console
    from hsstar.domain.errors import ConflictError
    from hsstar.insights.progress import patiently
    from hsstar.study import run
    from hsstar.study.metrics import load_metrics

    view = _Progress(study)
    reported: list[int] = []
    while True:
        states = patiently(lambda: run.advance(database, study, at_once), console.print)
        for line in view.news(database, states):
            console.print(line)
        sys.stdout.flush()
        complete = run.complete_seeds(study, states)
        if complete and complete != reported:
            _report(study, [*elsewhere, *load_metrics(database, study, complete)], folder)
            reported = complete
        if run.finished(study, states):
            return
        if stuck := run.stuck_runs(study, states):
            raise ConflictError(_why_stuck([states[name] for name in stuck]))
        time.sleep(_POLL_SECONDS)


def _why_stuck(stuck: "list[RunState]") -> str:
    again = "under this study's HSSTAR_HOME, and call the study again"
    if held := [f"{state.run} is held: {state.held}" for state in stuck if state.held]:
        return f"{'; '.join(held)}; let it continue: hsstar runs resume RUN, {again}"
    return (
        f"failed jobs hold up {', '.join(state.run for state in stuck)}; see hsstar jobs list RUN --state "
        f"failed, mend the cause, then hsstar jobs retry RUN, {again}"
    )


def _report(study: "Study", metrics: "list[RunMetrics]", folder: Path) -> None:
    from hsstar.cli.views.output import console
    from hsstar.study.report import write_report

    metrics = sorted(metrics, key=lambda run: study.document.seeds.index(run.run.seed))
    seeds = {run.run.seed for run in metrics}
    paths = write_report(study, metrics, folder)
    console.print(
        f"Report over {len(seeds)} of {len(study.document.seeds)} seeds: {', '.join(map(str, paths))}",
    )


class _Progress:
    def __init__(self, study: "Study") -> None:
        self._study = study
        self._done: dict[str, int] | None = None
        self._reasons: list[str] = []
        self._started = time.monotonic()
        self._finished_before = 0

    def news(self, database: "Database", states: dict[str, "RunState"]) -> list[str]:
        """Return a line per newly finished iteration, and per new reason why something waits."""
        total = len(self._study.runs) * self._study.document.iterations
        done = {name: state.done for name, state in states.items()}
        finished = sum(done.values())
        if self._done is None:
            self._done, self._finished_before = done, finished
            return [f"{finished} of {total} iterations are done"]
        lines = [
            f"{name}: iteration {number} done, {finished} of {total}{self._time_left(finished, total)}"
            for name, count in done.items()
            for number in range(self._done.get(name, 0), count)
        ]
        self._done = done
        return lines + self._new_reasons(database, states)

    def _new_reasons(self, database: "Database", states: dict[str, "RunState"]) -> list[str]:
        from hsstar.insights.progress import waiting_reasons
        from hsstar.study import run

        reasons = [
            f"{name}: {reason}"
            for name, queues in run.queues(database, states).items()
            for reason in waiting_reasons(queues)
        ]
        new = [reason for reason in reasons if reason not in self._reasons]
        self._reasons = reasons
        return new

    def _time_left(self, finished: int, total: int) -> str:
        from hsstar.cli.views.output import duration

        gained = finished - self._finished_before
        if gained < len(self._study.document.strategies) or finished == total:
            return ""
        seconds = (time.monotonic() - self._started) / gained * (total - finished)
        return f", about {duration(seconds)} left"
