"""The client: a database of hsstar, and all that can be asked of it."""

import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from hsstar.api.evaluation import EvaluationHandle
from hsstar.api.run import RunHandle
from hsstar.api.selection import Rows
from hsstar.commands import (
    connection,
    export_model,
    prune_models,
    prune_samples,
    samples,
    search,
    verdicts,
    workers,
)
from hsstar.commands import evaluate as evaluating
from hsstar.commands import problems as importing
from hsstar.commands.author import author
from hsstar.commands.evaluate import EvaluateOptions
from hsstar.commands.external_responses import ExternalResponsesReport
from hsstar.commands.models import add_model
from hsstar.commands.new_run import make_run
from hsstar.commands.problems import ImportOptions, ImportReport
from hsstar.commands.prune_models import PolicyFolder
from hsstar.commands.prune_samples import PrunedRound
from hsstar.commands.samples import SampleImportReport
from hsstar.commands.verdicts import Correction
from hsstar.data.files import ProblemFiles
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.samples import SampleFiles
from hsstar.data.sources import files_of
from hsstar.domain.calibration import Calibration
from hsstar.domain.problems import ProblemFormat
from hsstar.domain.verdict import Verdict
from hsstar.insights.allocation import calibrate_runs
from hsstar.insights.comparison import Difference, compare_runs
from hsstar.insights.evaluation import list_evaluations
from hsstar.insights.models import PolicyEntry, list_models
from hsstar.insights.overlaps import overlap_lines
from hsstar.insights.problems import DatasetEntry, list_datasets
from hsstar.insights.runs import RunEntry, find_run, list_runs
from hsstar.insights.workers import list_workers
from hsstar.plan.forecast import UserFigures
from hsstar.plan.plan import Plan, make_plan
from hsstar.plan.preflight import find_device
from hsstar.recipe.documents import merged
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe
from hsstar.settings import Settings, secret_environment
from hsstar.store.database import Database
from hsstar.store.read.overview import EvaluationEntry, WorkerSummary

QUERY_SECONDS = 60


def connect(url: str | None = None, *, home: str | Path | None = None) -> "Client":
    """Open a database: that of `url`, else the embedded one of `home`, else that of the environment.

    The environment's are HSSTAR_DATABASE_URL, or the embedded server of HSSTAR_HOME. Close the client, or use
    it in a `with` block. Raise DatabaseError if the database is not up; its text says how to start it.
    """
    environment = dict(os.environ)
    if home is not None:
        environment |= {"HSSTAR_HOME": str(home), "HSSTAR_DATABASE_URL": "", "HSSTAR_DATABASE_URL_FILE": ""}
    environment |= secret_environment("HSSTAR_DATABASE_URL", url)
    settings = Settings.from_environment(environment)
    return Client(connection.connect(settings), settings)


class Client:
    """A database of hsstar. Threads may share it; processes may not."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Client {self._database.shown_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    # --- runs ----------------------------------------------------------------------------------------

    def run(self, name: str) -> RunHandle:
        """Return the run of this name; raise NotFoundError, which names the runs that exist."""
        return RunHandle(self._database, self._settings, find_run(self._database, name).name)

    def runs(self, *, archived: bool = False) -> list[RunEntry]:
        """Return the runs that train, oldest first; with `archived` also those."""
        return list_runs(self._database, archived=archived)

    def create(
        self,
        recipe: str | Path | Mapping[str, Any],
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
        loaded = _load(recipe, changes | own)
        made = make_run(self._database, loaded, self._settings.models_dir)
        excluded = loaded.problems.overlaps == "exclude"
        for line in (*overlap_lines(made.overlaps, excluded=excluded), *made.warnings):
            warnings.warn(line, stacklevel=2)
        return RunHandle(self._database, self._settings, made.run)

    def compare_runs(self, first: str, second: str) -> list[Difference]:
        """Return what two runs differ in: recipe, data, and figures of iterations and policies."""
        return compare_runs(self._database, first, second)

    def calibrate(self, *runs: str) -> Calibration:
        """Say how far the pre-samples of runs foretold their further samples."""
        return calibrate_runs(self._database, runs)

    def plan(
        self,
        recipe: str | Path | Mapping[str, Any],
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
            _load(recipe, changes), iterations, figures, device, self._settings.models_dir, self._database
        )

    # --- queries -------------------------------------------------------------------------------------

    def sql(self, query: str, *, timeout_seconds: int = QUERY_SECONDS) -> Rows:
        """Return the rows of one read-only query over the views or tables, as `hsstar sql` runs it."""
        return Rows(self._database, query, timeout_seconds)

    def workers(self, *, stopped: bool = False) -> list[WorkerSummary]:
        """Return the workers by name, and what they do; with `stopped` also those."""
        return list_workers(self._database, stopped=stopped)

    # --- problems and policies -----------------------------------------------------------------------

    def datasets(self) -> list[DatasetEntry]:
        """Return the datasets with their counts."""
        return list_datasets(self._database)

    def import_problems(
        self,
        files: str | Path | Sequence[str | Path],
        dataset: str,
        *,
        file_format: ProblemFormat | str = ProblemFormat.AUTO,
        mapping: Mapping[str, str] | None = None,
        options: ImportOptions | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Import problems of files, folders, or `hub:` and `gym:` names into a dataset; all, or nothing.

        `mapping` says where a field is, as in `{"statement": "prompt.-1.content"}`.
        """
        names = [files] if isinstance(files, str | Path) else files
        columns = NO_MAP
        if mapping is not None:
            pairs = [f"{field}={path}" for field, path in mapping.items()]
            columns = ColumnMap.parse(pairs, ("statement",), ("reference", "solution"))
        source = ProblemFiles(files_of(names), ProblemFormat(file_format), columns)
        return importing.import_problems(self._database, source, dataset, options, progress)

    def models(self) -> list[PolicyEntry]:
        """Return the registered policies, oldest first."""
        return list_models(self._database)

    def add_model(self, name: str, location: str | Path) -> None:
        """Register the checkpoint in a folder, or of a Hugging Face name, under a name."""
        add_model(self._database, name, str(location))

    def export_model(self, name: str, folder: str | Path) -> Path:
        """Copy the checkpoint of a policy, with a model card, into a folder that is missing or empty."""
        return export_model.export_model(self._database, name, Path(folder))

    def import_samples(
        self, run: str, files: str | Path, dataset: str, *, allow_unreadable: bool = False
    ) -> SampleImportReport:
        """Add an iteration to a run whose pre-samples are responses of files that were drawn elsewhere."""
        stored = find_run(self._database, run)
        source = SampleFiles(files_of([files]))
        return samples.import_samples(
            self._database, stored, source, dataset, allow_unreadable=allow_unreadable
        )

    def delete_dataset(self, dataset: str, *, force: bool = False, dry_run: bool = False) -> int:
        """Delete a dataset that no run uses; return the number of its problems."""
        return importing.delete_dataset(self._database, dataset, force=force, dry_run=dry_run)

    # --- room and speed ------------------------------------------------------------------------------

    def prune_models(self, *, dry_run: bool = False) -> list[PolicyFolder]:
        """Delete the checkpoints that nothing needs any more; return them."""
        if dry_run:
            return [entry for entry in prune_models.list_folders(self._database) if entry.needed_by is None]
        return prune_models.prune_models(self._database)

    def prune_samples(
        self,
        before: datetime,
        *,
        keep: Collection[Literal["pairs", "correct"]] = (),
        run: str | None = None,
        dry_run: bool = False,
    ) -> list[PrunedRound]:
        """Delete the texts of rounds that were done before a moment; verdicts, rewards and pairs stay."""
        return prune_samples.prune_samples(self._database, before.astimezone(), keep, run, dry_run=dry_run)

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
        responses: str | Path | None = None,
        seed: int = 0,
    ) -> EvaluationHandle:
        """Find or start the evaluation of a policy; the arguments are the options of `hsstar evaluate`.

        No benchmarks mean all seven. The same call again finds the same rows.
        """
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
            responses=None if responses is None else SampleFiles(files_of([responses])),
        )
        evaluation = evaluating.evaluate(self._database, options, _warn)
        return EvaluationHandle(self._database, self._settings, evaluation, seed)

    def evaluations(self) -> list[EvaluationEntry]:
        """Return what `evaluate` has measured, oldest first."""
        return list_evaluations(self._database)

    def set_verdict(
        self, sample_id: int, verdict: Verdict | str, why: str, *, change_evaluations: bool = False
    ) -> Correction:
        """Record your verdict on a sample, with the reason; no verifier changes it later."""
        return verdicts.set_verdict(
            self._database,
            sample_id,
            Verdict(verdict),
            why,
            author(),
            self._settings,
            change_evaluations=change_evaluations,
        )


def _path(name: str | Path | None) -> Path | None:
    return None if name is None else Path(name)


def _load(recipe: str | Path | Mapping[str, Any], changes: dict[str, Any]) -> Recipe:
    if isinstance(recipe, Mapping):
        return parse_recipe(merged(dict(recipe), changes))
    return load_recipe(Path(recipe), changes)


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
