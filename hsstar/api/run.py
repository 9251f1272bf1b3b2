"""A run as an object: its rows, its life, and the work that it is asked to do."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsstar.api import again
from hsstar.api.exporting import export
from hsstar.api.filters import one_of
from hsstar.api.run_rows import RunRows
from hsstar.commands import delete_run, fork, jobs, run_life, runs, train_prm
from hsstar.commands.author import author
from hsstar.commands.delete_run import Deletion
from hsstar.commands.export import ExportReport, ExportRequest
from hsstar.commands.rescore import RescoreChange, RescoreReport, RescoreRequest
from hsstar.commands.reverify import Change, ReverifyRequest, RoundReport
from hsstar.commands.train_prm import RewardTraining, RewardTrainingReport
from hsstar.data.export_layouts import Exported
from hsstar.data.writing import ExportFormat
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.lifecycle import JobState
from hsstar.engines.training.contract import ProgressCallback
from hsstar.insights.allocation import OURS, ReplayedPolicy, parse_choice, replay_policies
from hsstar.insights.evaluation import RunTable, run_table
from hsstar.insights.iterations import IterationSummary, fault_lines, load_iterations
from hsstar.insights.lengths import drift_warnings
from hsstar.insights.models import rounding_warnings
from hsstar.insights.progress import (
    RunProgress,
    refuse_incomplete,
    run_progress,
    wait_for_run,
    waiting_reasons,
)
from hsstar.insights.runs import find_run, list_jobs, list_missing
from hsstar.monitoring.track import TrackerName, track_run, tracker_classes
from hsstar.recipe.base import parse_section
from hsstar.recipe.training import RewardTrainingSection
from hsstar.store.read.jobs import JobEntry
from hsstar.store.read.missing import MissingEntry

if TYPE_CHECKING:
    from hsstar.web.export import SiteReport

_log = logging.getLogger(__name__)


def _ignore(progress: RunProgress) -> None:
    """Look at no progress."""


class RunHandle(RunRows):
    """A run of a database: its rows, its life, its work. Whatever it returns is what the rows say now."""

    # --- what it is and how far ----------------------------------------------------------------------

    @property
    def recipe(self) -> dict[str, Any]:
        """The stored recipe with every default."""
        return find_run(self._database, self.name).recipe.document()

    @property
    def progress(self) -> RunProgress:
        """How far it is: its rounds, its queues, and why it is held."""
        return run_progress(self._database, find_run(self._database, self.name))

    @property
    def notes(self) -> list[str]:
        """What is wrong with it and why something waits, as `hsstar status` says; empty if all is well."""
        run = find_run(self._database, self.name)
        progress = run_progress(self._database, run)
        notes = [
            *fault_lines(run, progress.rounds),
            *waiting_reasons(progress.queues),
            *drift_warnings(progress.rounds),
            *rounding_warnings(self._database, self.name),
        ]
        return notes if progress.hold is None else [*notes, progress.hold]

    def missing(self) -> list[MissingEntry]:
        """Return what it lacks, slot by slot, and the job of each slot."""
        return list_missing(self._database, self.name)

    def table(self) -> RunTable:
        """Return the accuracies of its policies, as `hsstar report` prints them."""
        return run_table(self._database, self.name)

    def summaries(self) -> list[IterationSummary]:
        """Return its iterations with every figure and `faults`, in words, as `hsstar report` has them."""
        return load_iterations(self._database, self.name)

    def jobs(self, *, state: JobState | str | None = None, limit: int = 50) -> list[JobEntry]:
        """Return its newest jobs, newest first, in one state where given."""
        return list_jobs(self._database, self.name, state and one_of(JobState, "state", state), limit)

    # --- its work ------------------------------------------------------------------------------------

    def iterate(self, iterations: int = 1, *, keep_going: bool = False) -> list[int]:
        """Enqueue the next iterations and return their numbers; the workers do the rest.

        With `keep_going` the run continues after one of them that trains nothing. Raise ConflictError while
        earlier ones are under way, HeldError if the run is held, BadInputError without enough problems.
        """
        run = find_run(self._database, self.name)
        return runs.start_iterations(self._database, run, iterations, keep_going=keep_going)

    def wait(
        self,
        timeout_seconds: float | None = None,
        look: Callable[[RunProgress], None] = _ignore,
    ) -> RunProgress:
        """Wait until all iterations and evaluations that were asked for are done.

        `look` is called with the progress twice a second. An absent database is waited for, with a warning in
        the log. Raise TimeoutError after `timeout_seconds`, HeldError if the run is held, ConflictError if
        failed jobs keep it from its end.
        """
        return self._wait(timeout_seconds, look)

    def _wait(
        self,
        timeout_seconds: float | None,
        look: Callable[[RunProgress], None] = _ignore,
        kind: str | None = None,
    ) -> RunProgress:
        run = find_run(self._database, self.name)
        progress = wait_for_run(self._database, run, timeout_seconds, look, _log.warning, kind)
        if progress is None:
            raise TimeoutError(
                f"run {self.name!r} is not done after {timeout_seconds:g} s; it continues: wait again"
            )
        refuse_incomplete(self.name, progress)
        return progress

    def retry(self, job_ids: Sequence[int] = ()) -> list[int]:
        """Queue its failed jobs again, or these of them; return their ids."""
        return jobs.retry_jobs(self._database, self.name, job_ids)

    def accept_missing(self) -> int:
        """Discard its failed jobs, so that it continues without what they lack; return their number."""
        return runs.accept_missing(self._database, find_run(self._database, self.name))

    def allocate(
        self,
        policies: Sequence[str] = OURS,
        *,
        iteration: int | None = None,
        repetitions: int = 20,
    ) -> list[ReplayedPolicy]:
        """Say what other allocation policies would have made of an iteration, drawing nothing.

        A policy is given as `pairs,waves=4,worth=cap`, with keys of `[allocation]`; no iteration means the
        last one with all its samples. Raise ConflictError while it samples.
        """
        choices = [parse_choice(policy) for policy in policies]
        return replay_policies(self._database, self.name, iteration, choices, repetitions)

    def reverify(
        self,
        *,
        dry_run: bool = False,
        change_evaluations: bool = False,
        verifier: str | None = None,
        on_change: Callable[[Change], None] | None = None,
    ) -> list[RoundReport]:
        """Judge its samples again; return what changed in each round, or would with `dry_run`.

        `verifier` is MODULE:CLASS with the contract of `hsstar.verifier.Verifier`, in place of the recipe's.
        `on_change` gets every verdict, label and pair that differs.
        """
        request = ReverifyRequest(
            run=self.name, author=author(), dry_run=dry_run, change_evaluations=change_evaluations
        )
        return again.reverify(self._database, self._settings, request, verifier, on_change)

    def rescore(
        self,
        reward: str,
        *,
        in_place_of: str | None = None,
        dry_run: bool = False,
        on_change: Callable[[RescoreChange], None] | None = None,
    ) -> list[RescoreReport]:
        """Score its samples by another reward model, in this process; return a report per iteration.

        `reward` is a reward of the run whose weights have changed, or another reward model, which stands in
        for the reward `in_place_of` where the run has several. Labels and pairs stay; `on_change` gets those
        that would differ.
        """
        request = RescoreRequest(run=self.name, reward=reward, in_place_of=in_place_of, dry_run=dry_run)
        return again.rescore(self._database, request, on_change)

    def train_prm(
        self,
        output: str | Path,
        *,
        iteration: int | None = None,
        responses: int = 4,
        continuations: int = 8,
        held_out: float = 0.2,
        seed: int | None = None,
        progress: ProgressCallback | None = None,
        timeout_seconds: float | None = None,
        **changes: Any,
    ) -> RewardTrainingReport:
        """Make a process reward model for its policy from continuations of its responses, into a folder.

        The workers draw the continuations, which is waited for; then a value head is trained in this process
        and measured on held-out problems. `changes` are keys of the training, as in `batch_size=32`. The same
        call continues after an interruption. Raise as `wait`, and ConflictError if `output` holds something.
        """
        section = parse_section(RewardTrainingSection, changes, "changes")
        request = RewardTraining(
            run=self.name, output=Path(output), section=section, iteration=iteration, responses=responses,
            continuations=continuations, held_out=held_out, seed=seed,
        )  # fmt: skip
        labelling = train_prm.label_steps(self._database, request)
        if not train_prm.is_labelled(self._database, labelling):
            owner = RunHandle(self._database, self._settings, labelling.run.name)
            owner._wait(timeout_seconds, kind="steps")
        return train_prm.train_reward_model(self._database, request, labelling, self._settings, progress)

    def export(
        self,
        exported: Exported,
        target: str | Path,
        *,
        layout: str = "hsstar",
        file_format: ExportFormat | None = None,
        public: bool = False,
        force: bool = False,
        **choices: Any,
    ) -> ExportReport:
        """Write its pairs, samples, rewards, groups, difficulty or evaluations to a file or `hub:OWNER/NAME`.

        `choices` are the other fields of `hsstar.commands.export.ExportRequest`. A file is replaced, one of
        the hub only with `force`; a data set that this makes on the hub is private unless `public`.
        """
        if exported == "problems":
            raise BadInputError("problems belong to a dataset; write them by Client.export")
        request = ExportRequest(exported=exported, name=self.name, layout=layout, **choices)
        return export(self._database, request, target, file_format, public=public, force=force)

    def export_site(self, folder: str | Path, *, megabytes: int = 100) -> "SiteReport":
        """Write its pages, as `hsstar web` shows them, into a folder; those with samples up to a size.

        Raise MissingDependencyError without the extra `web`, ConflictError if the folder holds something.
        """
        try:
            from hsstar.web.export import export_site
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"pages need {error.name}: pip install 'hsstar[web]'") from None
        return export_site(self._database.url, self.name, Path(folder), megabytes)

    def track(
        self,
        *trackers: TrackerName,
        project: str = "hsstar",
        folder: str | Path | None = None,
        once: bool = False,
    ) -> dict[str, int]:
        """Send its figures to trackers until it has ended, or `once`; return how many points each got.

        Trackers are `trackio`, `wandb`, `mlflow` and `tensorboard`; one that is down is tried again, with a
        warning in the log. Raise MissingDependencyError, which names the extra of a tracker.
        """
        place = self._settings.home / "tracking" if folder is None else Path(folder)
        run, classes = find_run(self._database, self.name), tracker_classes(trackers)
        return track_run(self._database, run, classes, project, place, _log.warning, once=once)

    # --- its life ------------------------------------------------------------------------------------

    def pause(self) -> int:
        """Let it rest until `resume`; return how many of its jobs still run to their end."""
        return run_life.pause_run(self._database, self.name, author())

    def resume(self) -> str:
        """Let it continue, whatever holds it; return why it was held."""
        return run_life.resume_run(self._database, self.name)

    def cancel(self) -> int:
        """Stop its jobs; return how many were running. What is written stays."""
        return run_life.cancel_run(self._database, self.name, author())

    def archive(self) -> None:
        """Leave it out of lists; everything in it stays, and `resume` brings it back."""
        run_life.archive_run(self._database, self.name, author())

    def rename(self, name: str) -> None:
        """Give it another name; its policies keep theirs."""
        run_life.rename_run(self._database, self.name, name, self._settings.models_dir)
        self.name = name

    def fork(self, iteration: int, *, name: str | None = None, **changes: Any) -> "RunHandle":
        """Make a run that shares the iterations before this one and continues with a changed recipe.

        `changes` are tables of the recipe, as in `training={"beta": 0.2}`.
        """
        made = fork.fork_run(self._database, self.name, iteration, changes, name, self._settings.models_dir)
        return RunHandle(self._database, self._settings, made.name)

    def plan_deletion(self) -> Deletion:
        """Say what `delete` would take away."""
        return delete_run.plan_deletion(self._database, self.name)

    def delete(self) -> Deletion:
        """Delete it for good, with its rows and the policies that nothing else needs; this asks nobody."""
        return delete_run.delete_run(self._database, self.name, author(), self._settings.models_dir)
