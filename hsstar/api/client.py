"""The client: a database of hsstar, and all that can be asked of it."""

import logging
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Literal

from hsstar.api.drawn_samples import DrawnSamples
from hsstar.api.evaluation import EvaluationHandle
from hsstar.api.exporting import export
from hsstar.api.filters import one_of
from hsstar.api.library import Library
from hsstar.api.reading import Names, Paths, sample_files, warn_of
from hsstar.api.recipes import Given, load
from hsstar.api.run import RunHandle
from hsstar.api.selection import Rows
from hsstar.commands import (
    connection,
    jobs,
    search,
    workers,
)
from hsstar.commands import evaluate as evaluating
from hsstar.commands.evaluate import EvaluateOptions
from hsstar.commands.export import ExportReport, ExportRequest
from hsstar.commands.external_responses import ExternalResponsesReport
from hsstar.commands.new_run import make_run
from hsstar.data.bad_rows import BadRows
from hsstar.data.writing import ExportFormat
from hsstar.domain.calibration import Calibration
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.lifecycle import JobState
from hsstar.insights.allocation import calibrate_runs
from hsstar.insights.comparison import Difference, compare_runs
from hsstar.insights.evaluation import list_evaluations
from hsstar.insights.overlaps import overlap_lines
from hsstar.insights.runs import RunEntry, find_run, list_jobs, list_runs, summarise_runs
from hsstar.insights.workers import list_workers
from hsstar.plan.forecast import UserFigures
from hsstar.plan.plan import Plan, make_plan
from hsstar.plan.preflight import find_device
from hsstar.settings import Settings, secret_environment
from hsstar.store import migrate
from hsstar.store.read.jobs import JobEntry
from hsstar.store.read.overview import EvaluationEntry, RunSummary, WorkerSummary
from hsstar.study.conduct import StudyReport, conduct, open_share

QUERY_SECONDS = 60

_log = logging.getLogger(__name__)


def connect(url: str | None = None, *, home: str | Path | None = None) -> "Client":
    """Open a database: that of `url`, else the embedded one of `home`, else that of the environment.

    The environment's are HSSTAR_DATABASE_URL, or the embedded server of HSSTAR_HOME. Close the client, or use
    it in a `with` block. Raise DatabaseError if the database is not up; its text says how to start it.
    """
    settings = _settings(url, home)
    return Client(connection.connect(settings), settings)


def upgrade(url: str | None = None, *, home: str | Path | None = None) -> str:
    """Migrate a database, found as by `connect`, to this hsstar's schema; return its revision.

    It is safe to do so many times, also at once.
    """
    with closing(connection.connect(_settings(url, home), check_schema=False)) as database:
        migrate.upgrade(database)
        return migrate.current(database) or ""


def _settings(url: str | None, home: str | Path | None) -> Settings:
    environment = dict(os.environ)
    if home is not None:
        environment |= {"HSSTAR_HOME": str(home), "HSSTAR_DATABASE_URL": "", "HSSTAR_DATABASE_URL_FILE": ""}
    environment |= secret_environment("HSSTAR_DATABASE_URL", url)
    return Settings.from_environment(environment)


class Client(Library, DrawnSamples):
    """A database of hsstar. Threads may share it; processes may not."""

    # --- runs ----------------------------------------------------------------------------------------

    def run(self, name: str) -> RunHandle:
        """Return the run of this name; raise NotFoundError, which names the runs that exist."""
        return RunHandle(self._database, self._settings, find_run(self._database, name).name)

    def runs(self, *, archived: bool = False) -> list[RunEntry]:
        """Return the runs that train, oldest first; with `archived` also those."""
        return list_runs(self._database, archived=archived)

    def create(
        self,
        recipe: Given,
        *,
        name: str | None = None,
        seed: int | None = None,
        **changes: Any,
    ) -> RunHandle:
        """Create a run from a recipe: a TOML file, `builtin:demo`, or the recipe as a dictionary.

        `changes` are tables that replace keys of it, as in `sampling={"n": 16}`. What its user should know
        (overlaps with benchmarks, prompts that are too long) comes as warnings. Raise RecipeError for what
        is no recipe, ConflictError if the name is taken, NotFoundError for an unknown model or dataset.
        """
        own = {key: value for key, value in (("name", name), ("seed", seed)) if value is not None}
        loaded = load(recipe, changes | own)
        made = make_run(self._database, loaded, self._settings.models_dir)
        excluded = loaded.problems.overlaps == "exclude"
        for line in (*overlap_lines(made.overlaps, excluded=excluded), *made.warnings):
            warnings.warn(line, stacklevel=2)
        return RunHandle(self._database, self._settings, made.run)

    def status(self) -> list[RunSummary]:
        """Return the state of every run, evaluations too, oldest first."""
        return summarise_runs(self._database)

    def compare_runs(self, first: str, second: str) -> list[Difference]:
        """Return what two runs differ in: recipe, data, and figures of iterations and policies."""
        return compare_runs(self._database, first, second)

    def calibrate(self, *runs: str) -> Calibration:
        """Say how far the pre-samples of runs foretold their further samples."""
        return calibrate_runs(self._database, runs)

    def plan(
        self,
        recipe: Given,
        iterations: int = 3,
        *,
        gpu_memory: float | None = None,
        training_gpus: int | None = None,
        stated: UserFigures | None = None,
        **changes: Any,
    ) -> Plan:
        """Forecast samples, tokens, hours and disk of a recipe, and check that models, data and memory fit.

        `stated` are figures that you know better than earlier runs do; `gpu_memory` is gigabytes of one GPU.
        """
        device = find_device(self._settings, gpu_memory, training_gpus)
        figures = stated or UserFigures()
        return make_plan(
            load(recipe, changes), iterations, figures, device, self._settings.models_dir, self._database
        )

    def study(
        self,
        file: str | Path,
        output: str | Path | None = None,
        *,
        at_once: int | None = None,
        seeds: Collection[int] = (),
        shared: Sequence[str | Path] = (),
        tell: Callable[[str], None] | None = None,
    ) -> StudyReport:
        """Run a study in this database to its end; its report goes to `output`, by default named after it.

        Its workers have to be up: `hsstar study` starts its own. The next call continues an interrupted one.
        `seeds` are those that this machine takes, `shared` the tables of the other machines, `at_once` the
        runs under way, by default one of each strategy; `tell` gets a line whenever something is new.
        Raise ConflictError where held runs or failed jobs keep it from its end.
        """
        share = open_share(Path(file), seeds, [Path(table) for table in shared])
        folder = Path(output if output is not None else share.study.document.name)
        models, say = self._settings.models_dir, tell or _log.info
        return conduct(self._database, share, folder, models, say, at_once=at_once)

    # --- queries -------------------------------------------------------------------------------------

    def sql(self, query: str, *, timeout_seconds: int = QUERY_SECONDS) -> Rows:
        """Return the rows of one read-only query over the views or tables, as `hsstar sql` runs it."""
        return Rows(self._database, query, timeout_seconds)

    def workers(self, *, stopped: bool = False) -> list[WorkerSummary]:
        """Return the workers by name, and what they do; with `stopped` also those."""
        return list_workers(self._database, stopped=stopped)

    def jobs(self, *, state: JobState | str | None = None, limit: int = 50) -> list[JobEntry]:
        """Return the newest jobs of all runs, newest first, in one state where given."""
        return list_jobs(self._database, None, state and one_of(JobState, "state", state), limit)

    def retry(self, job_ids: Sequence[int] = ()) -> list[int]:
        """Queue the failed jobs of all runs that are not held again, or these of them; return their ids."""
        return jobs.retry_jobs(self._database, None, job_ids)

    def metrics(self) -> str:
        """Return the figures of the runs in Prometheus' text format.

        Raise MissingDependencyError without the extra `metrics`.
        """
        try:
            from hsstar.monitoring.prometheus import exposition
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"metrics need {error.name}: pip install 'hsstar[metrics]'"
            ) from None
        return exposition(lambda: nullcontext(self._database)).decode()

    def export(
        self,
        exported: Literal["problems", "evaluations"],
        target: str | Path,
        dataset: str | None = None,
        *,
        layout: str = "hsstar",
        file_format: ExportFormat | None = None,
        public: bool = False,
        force: bool = False,
    ) -> ExportReport:
        """Write the problems of a dataset, or the evaluations of all runs, as `RunHandle.export` does."""
        if (exported == "problems") == (dataset is None):
            raise BadInputError("problems are written with a dataset, evaluations without one")
        request = ExportRequest(exported=exported, name=dataset, layout=layout)
        return export(self._database, request, target, file_format, public=public, force=force)

    def index_text(self, *, drop: bool = False) -> bool:
        """Make the search in statements fast by an index, or drop it; return whether it changed that."""
        return search.index_text(self._database, drop=drop)

    def stop_workers(self, *names: str, roles: Sequence[str] = (), everyone: bool = False) -> list[str]:
        """Ask live workers to finish their jobs and to end; return their names."""
        return workers.stop_workers(self._database, names, roles, everyone=everyone)

    # --- measuring and judging -----------------------------------------------------------------------

    def evaluate(
        self,
        model: str,
        benchmarks: Sequence[str] = (),
        *,
        compare: str | None = None,
        data: str | Path | None = None,
        problems: int | None = None,
        samples: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        max_new_tokens: int | None = None,
        prompt: str | None = None,
        engine: str | None = None,
        recipe: str | Path | None = None,
        responses: Names | None = None,
        mapping: Paths | None = None,
        skip_bad: int = 0,
        seed: int = 0,
    ) -> EvaluationHandle:
        """Find or start the evaluation of a policy; the arguments are the options of `hsstar evaluate`.

        No benchmarks mean all seven. The same call again finds the same rows. `mapping` and `skip_bad` are of
        the responses.
        """
        bad = BadRows(skip_bad)
        decoding = {
            "samples": samples,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "max_new_tokens": max_new_tokens,
        }
        options = EvaluateOptions(
            model=model,
            compare=compare,
            benchmarks=tuple(benchmarks),
            data=_path(data),
            problems=problems,
            decoding={key: value for key, value in decoding.items() if value is not None},
            prompt=prompt,
            engine=engine,
            recipe=_path(recipe),
            seed=seed,
            responses=None if responses is None else sample_files(responses, mapping, bad),
        )
        evaluation = evaluating.evaluate(self._database, options, _warn)
        warn_of(bad)
        return EvaluationHandle(self._database, self._settings, evaluation, seed)

    def evaluations(self) -> list[EvaluationEntry]:
        """Return what `evaluate` has measured, oldest first."""
        return list_evaluations(self._database)


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)


def _warn(notice: evaluating.Notice) -> None:
    """Warn of what makes figures other than one may think."""
    if not isinstance(notice, ExternalResponsesReport):
        for line in overlap_lines(notice.overlaps):
            warnings.warn(line, stacklevel=4)
        return
    for benchmark, missing in notice.missing.items():
        if missing:
            warnings.warn(
                f"{benchmark}: {missing} problems have no response and count as not solved", stacklevel=4
            )
    if notice.unmatched:
        warnings.warn(f"{notice.unmatched} responses belong to no problem of these benchmarks", stacklevel=4)
