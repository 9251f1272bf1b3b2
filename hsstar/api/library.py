"""Problems, benchmarks and policies of a database."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hsstar.api.opened import Opened
from hsstar.api.reading import Names, Paths, problem_files, warn_of
from hsstar.api.recipes import Given, load
from hsstar.commands import export_model, prune_models
from hsstar.commands import problems as importing
from hsstar.commands.benchmarks import ImportedBenchmark, ensure_imported
from hsstar.commands.models import add_model
from hsstar.commands.problems import ImportOptions, ImportReport
from hsstar.commands.prompts import ShownPrompt, show_first_prompt
from hsstar.commands.prune_models import PolicyFolder
from hsstar.data.bad_rows import BadRows
from hsstar.domain.benchmarks import BENCHMARKS, find_benchmark
from hsstar.domain.problems import ProblemFormat
from hsstar.domain.verdict import Kind
from hsstar.insights.benchmarks import BenchmarkEntry, list_benchmarks
from hsstar.insights.models import Descendant, PolicyEntry, find_lineage, list_models
from hsstar.insights.problems import DatasetEntry, list_datasets
from hsstar.verifier.kinds import settings_for_references


class Library(Opened):
    """What a database has to train and to measure: problems, benchmarks and policies."""

    def datasets(self) -> list[DatasetEntry]:
        """Return the datasets with their counts."""
        return list_datasets(self._database)

    def import_problems(
        self,
        files: Names,
        dataset: str,
        *,
        file_format: ProblemFormat | str = ProblemFormat.AUTO,
        mapping: Paths | None = None,
        options: ImportOptions | None = None,
        skip_bad: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Import problems of files, folders, or `hub:` and `gym:` names into a dataset; all, or nothing.

        `mapping` says where a field is, as in `{"statement": "prompt.-1.content"}`. Up to `skip_bad` rows
        that cannot be used are left out, with a warning.
        """
        bad = BadRows(skip_bad)
        source = problem_files(files, file_format, mapping, bad)
        report = importing.import_problems(self._database, source, dataset, options, progress)
        warn_of(bad)
        return report

    def benchmarks(self) -> list[BenchmarkEntry]:
        """Return the known benchmarks with their protocol, and which of them are imported."""
        return list_benchmarks(self._database)

    def import_benchmarks(
        self,
        names: Sequence[str] = (),
        *,
        data: str | Path | None = None,
        verification: Kind = "math",
        progress: Callable[[int], None] | None = None,
    ) -> list[ImportedBenchmark]:
        """Import benchmarks, all seven without names, from their files in the folder `data`, else the hub.

        What is imported already is found again. Raise BadInputError for a file that is not as published.
        """
        settings = settings_for_references(verification)
        folder = None if data is None else Path(data)
        return [
            ensure_imported(
                self._database, find_benchmark(name), folder, progress=progress, verification=settings
            )
            for name in names or BENCHMARKS
        ]

    def prompt(self, recipe: Given, dataset: str | None = None, **changes: Any) -> ShownPrompt:
        """Return the prompt of the first problem of a dataset, by default the recipe's, as it is sampled.

        `hsstar.prompt` does so for a problem that you give, without a database.
        """
        loaded = load(recipe, changes)
        return show_first_prompt(self._database, loaded.policy, dataset or loaded.problems.dataset)

    def models(self) -> list[PolicyEntry]:
        """Return the registered policies, oldest first."""
        return list_models(self._database)

    def add_model(self, name: str, location: str | Path) -> None:
        """Register the checkpoint in a folder, or of a Hugging Face name, under a name."""
        add_model(self._database, name, str(location))

    def lineage(self, model: str | None = None) -> list[Descendant]:
        """Return how policies descend from one another; of one: its ancestors, itself, its descendants."""
        return find_lineage(self._database, model)

    def export_model(self, name: str, folder: str | Path) -> Path:
        """Copy the checkpoint of a policy, with a model card, into a folder that is missing or empty."""
        return export_model.export_model(self._database, name, Path(folder))

    def delete_dataset(self, dataset: str, *, force: bool = False, dry_run: bool = False) -> int:
        """Delete a dataset that no run uses; return the number of its problems."""
        return importing.delete_dataset(self._database, dataset, force=force, dry_run=dry_run)

    def prune_models(self, *, dry_run: bool = False) -> list[PolicyFolder]:
        """Delete the checkpoints that nothing needs any more; return them."""
        if dry_run:
            return [entry for entry in prune_models.list_folders(self._database) if entry.needed_by is None]
        return prune_models.prune_models(self._database)
