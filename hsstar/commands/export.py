"""Export what a run has made, and the problems of a dataset: to a file, a stream, or the hub."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import Connection

from hsstar.data import hub
from hsstar.data.export_card import export_card
from hsstar.data.export_layouts import EXPORT_LAYOUTS, Exported, Written
from hsstar.data.writing import ExportFormat, write_rows
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.engines.prompts import Renderer, prompt_renderer
from hsstar.store import datasets, models, retention, runs
from hsstar.store.database import Database
from hsstar.store.read import exports
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is exported, and in which of the layouts of `EXPORT_LAYOUTS`."""

    exported: Exported
    name: str | None  # of the run, of the dataset of problems; None: the evaluations of all runs
    layout: str = "hsstar"
    iteration: int | None = None  # of the difficulty; None: all
    evaluations: bool = False  # samples of the evaluations, not of the iterations
    sources: bool = False  # samples that the sources drew beside the policy
    correct: bool = False  # correct samples only
    by: exports.GroupReward = "verdict"  # what the advantages in groups are of


@dataclass(slots=True)
class ExportReport:
    """What became of the rows, and where they are on the hub."""

    written: int = 0
    left_out: int = 0  # those that the layout cannot say
    without_text: int = 0  # samples of the run whose text was deleted, so that no export has them
    place: str | None = None


def export_rows(
    database: Database, request: ExportRequest, target: Path | IO[bytes], file_format: ExportFormat
) -> ExportReport:
    """Write rows to a file or a stream; raise NotFoundError without the run or dataset."""
    report = ExportReport()
    with database.begin() as connection:
        rows = _laid_out(_rows(connection, request), request, report)
        report.written = write_rows(target, rows, file_format)
        if request.exported in ("pairs", "samples", "rewards", "groups"):
            run = runs.find_run(connection, request.name or "")
            report.without_text = retention.count_pruned(connection, run.id)
    return report


def export_to_hub(
    database: Database,
    request: ExportRequest,
    repository: str,
    file_format: ExportFormat,
    *,
    public: bool,
    replace: bool,
) -> ExportReport:
    """Write rows into a data set of the hub, with a card; it is private unless it exists or is to be public.

    Raise ConflictError if the data set has a file of this name, unless `replace`, and BadInputError if the
    hub refuses.
    """
    file = f"{request.exported}.{file_format}"
    existing = hub.existing_files(repository)
    if file in existing and not replace:
        raise ConflictError(f"hub:{repository} has {file} already; give another data set, or --force")
    with tempfile.TemporaryDirectory(prefix="hsstar-hub-") as folder:
        path = Path(folder) / file
        report = export_rows(database, request, path, file_format)
        recipe = None
        if request.exported != "problems" and request.name is not None:
            with database.begin() as connection:
                recipe = runs.find_run(connection, request.name).recipe.document()
        others = [name for name in existing if name != file]
        card = export_card(repository, request.exported, request.name, request.layout, report.written, recipe)
        report.place = hub.upload(repository, path, card.with_files([file, *others]), public=public)
    return report


def _laid_out(rows: Iterator[Written], request: ExportRequest, report: ExportReport) -> Iterator[Written]:
    layout = EXPORT_LAYOUTS[request.exported][request.layout]
    for row in rows:
        if request.correct and not row["correct"]:
            continue
        written = layout(row)
        if written is None:
            report.left_out += 1
        else:
            yield written


def _rows(connection: Connection, request: ExportRequest) -> Iterator[Written]:
    name = request.name
    if request.exported == "problems":
        dataset = datasets.find_dataset(connection, name or "")
        return (row | {"dataset": dataset.name} for row in exports.export_problems(connection, dataset))
    if request.exported == "evaluations":
        return exports.export_evaluations(
            connection, None if name is None else runs.find_run(connection, name)
        )
    run = runs.find_run(connection, name or "")
    if request.exported == "difficulty":
        return exports.export_difficulty(connection, run, request.iteration)
    if request.exported == "pairs":
        pairs = exports.export_pairs(connection, run)
        return _with_prompts(connection, run, _rendered(connection, run, pairs))
    if request.exported == "groups":
        if request.by == "reward" and not run.recipe.scored:
            raise BadInputError(f"run {run.name!r} has no rewards (reward.model = 'none'); take --by verdict")
        return _rendered(connection, run, exports.export_groups(connection, run, request.by))
    if request.exported == "rewards":
        return _with_prompts(connection, run, exports.export_rewards(connection, run))
    kind: exports.RoundKind = "source" if request.sources else "iteration"
    if request.evaluations:
        kind = "evaluation"
    return _with_prompts(connection, run, exports.export_samples(connection, run, kind))


def _with_prompts(connection: Connection, run: Run, rows: Iterable[Written]) -> Iterator[Written]:
    """Yield rows of a run with what its policy was asked: the turns of a chat, else a text."""
    prompt = run.recipe.policy.prompt.resolved
    ask = prompt.conversation if prompt.is_chat else _renderer(connection, run)
    for row in rows:
        beside = {"asked": ask(row["query"]), "prefill": prompt.prefill}
        yield row | beside | {"thinking": run.recipe.policy.thinking}


def _rendered(connection: Connection, run: Run, rows: Iterable[Written]) -> Iterator[Written]:
    """Yield rows of a run with the prompts that its policy is trained on."""
    render = _renderer(connection, run)
    for row in rows:
        statement = row.pop("statement")
        yield {"prompt": render(statement), "query": statement} | row


def _renderer(connection: Connection, run: Run) -> Renderer:
    policy = models.get_model(connection, run.model_id)
    return prompt_renderer(run.recipe.policy.prompt.resolved, policy.location)
