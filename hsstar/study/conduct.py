"""Conduct a study: keep its runs under way until they end, say what is new, and write its report."""

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hsstar.domain.errors import ConflictError, MissingDependencyError
from hsstar.domain.text import duration
from hsstar.insights.progress import patiently, waiting_reasons
from hsstar.store.database import Database
from hsstar.store.read.studies import RunState
from hsstar.study import run
from hsstar.study.document import Study, load_study
from hsstar.study.metrics import RunMetrics, StrategyMetrics, compare, load_metrics
from hsstar.study.tables import read_runs

_POLL_SECONDS = 2.0
_SECONDS = re.compile(r"[\d,]+ s\b")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StudyShare:
    """A study, the part of it that is run here, and what other machines have finished."""

    study: Study
    part: Study
    elsewhere: list[RunMetrics]


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What a study came to: its strategies over the seeds that are complete, and the files that say so."""

    study: str
    seeds: tuple[int, ...]
    asked: int  # seeds of the study
    strategies: list[StrategyMetrics]
    files: list[Path]

    @property
    def line(self) -> str:
        """Seeds and files in a line."""
        return f"Report over {len(self.seeds)} of {self.asked} seeds: {', '.join(map(str, self.files))}"


def open_share(file: Path, seeds: Collection[int] = (), shared: Sequence[Path] = ()) -> StudyShare:
    """Read a study and the tables of other machines; no seeds mean all that those tables lack.

    Raise MissingDependencyError without matplotlib, RecipeError for what is no study, BadInputError or
    ConflictError for a table of another one.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("a study draws plots by matplotlib: pip install 'hsstar[study]'")
    study = load_study(file)
    elsewhere = read_runs(shared, study)
    finished = {metrics.run.seed for metrics in elsewhere}
    return StudyShare(study, study.part(set(seeds or study.document.seeds) - finished), elsewhere)


def write_share(share: StudyShare, here: Sequence[RunMetrics], folder: Path) -> StudyReport:
    """Write the report over what finished elsewhere and `here` into a folder."""
    from hsstar.study.report import write_report  # imports matplotlib

    study, document = share.study, share.study.document
    metrics = sorted([*share.elsewhere, *here], key=lambda of: document.seeds.index(of.run.seed))
    files = write_report(study, metrics, folder)
    seeds = tuple(dict.fromkeys(of.run.seed for of in metrics))
    return StudyReport(document.name, seeds, len(document.seeds), compare(study, metrics), files)


def conduct(
    database: Database,
    share: StudyShare,
    folder: Path,
    models_folder: Path,
    tell: Tell,
    *,
    at_once: int | None = None,
) -> StudyReport:
    """Run this share of a study to its end; write the report whenever a seed is complete, and return it.

    `at_once` runs are under way, by default one of each strategy. The next call continues an interrupted
    study. `tell` gets a line whenever something is new. An absent database is waited for.

    Raises:
        ConflictError: a run of the study has another recipe, a dataset another size, or every unfinished run
            is held or held up by failed jobs.
    """
    part = share.part
    if not part.runs:
        return write_share(share, (), folder)
    run.check_runs(database, part, models_folder)
    run.prepare_problems(database, part)
    news, limit = _News(part), at_once or len(part.document.strategies)
    report: StudyReport | None = None
    reported: list[int] = []
    while True:
        states = patiently(lambda: run.advance(database, part, limit), tell)
        for line in news.lines(database, states):
            tell(line)
        complete = run.complete_seeds(part, states)
        if complete and complete != reported:
            report, reported = write_share(share, load_metrics(database, part, complete), folder), complete
            tell(report.line)
        if report is not None and run.finished(part, states):
            return report
        if stuck := run.stuck_runs(part, states):
            raise ConflictError(_why_stuck([states[name] for name in stuck]))
        time.sleep(_POLL_SECONDS)


def _why_stuck(stuck: Sequence[RunState]) -> str:
    again = "under this study's HSSTAR_HOME, and call the study again"
    if held := [f"{state.run} is held: {state.held}" for state in stuck if state.held]:
        return f"{'; '.join(held)}; let it continue: hsstar runs resume RUN, {again}"
    return (
        f"failed jobs hold up {', '.join(state.run for state in stuck)}; see hsstar jobs list RUN --state "
        f"failed, mend the cause, then hsstar jobs retry RUN, {again}"
    )


class _News:
    def __init__(self, study: Study) -> None:
        self._study = study
        self._done: dict[str, int] | None = None
        self._reasons = set[str]()  # without their seconds, which differ with every look
        self._started = time.monotonic()
        self._finished_before = 0

    def lines(self, database: Database, states: dict[str, RunState]) -> list[str]:
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

    def _new_reasons(self, database: Database, states: dict[str, RunState]) -> list[str]:
        reasons = [
            f"{name}: {reason}"
            for name, queues in run.queues(database, states).items()
            for reason in waiting_reasons(queues)
        ]
        new = [reason for reason in reasons if _SECONDS.sub("", reason) not in self._reasons]
        self._reasons = {_SECONDS.sub("", reason) for reason in reasons}
        return new

    def _time_left(self, finished: int, total: int) -> str:
        gained = finished - self._finished_before
        if gained < len(self._study.document.strategies) or finished == total:
            return ""
        seconds = (time.monotonic() - self._started) / gained * (total - finished)
        return f", about {duration(seconds)} left"
