"""A run as an object: its rows, its life, and the work that it is asked to do."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hsstar.api.filters import (
    CauseName,
    LevelName,
    OneOrMore,
    PhaseName,
    VerdictName,
    conditions,
)
from hsstar.api.selection import Selection
from hsstar.commands import delete_run, fork, jobs, run_life, runs
from hsstar.commands import export as exports
from hsstar.commands import reverify as reverifying
from hsstar.commands.author import author
from hsstar.commands.delete_run import Deletion
from hsstar.commands.export import ExportReport, ExportRequest
from hsstar.commands.reverify import ReverifyRequest, RoundReport
from hsstar.data.export_layouts import Exported
from hsstar.data.writing import ExportFormat, format_of
from hsstar.insights.allocation import OURS, ReplayedPolicy, parse_choice, replay_policies
from hsstar.insights.evaluation import RunTable, run_table
from hsstar.insights.iterations import fault_lines
from hsstar.insights.lengths import drift_warnings
from hsstar.insights.models import rounding_warnings
from hsstar.insights.progress import (
    RunProgress,
    refuse_incomplete,
    run_progress,
    wait_for_run,
    waiting_reasons,
)
from hsstar.insights.runs import find_run, list_missing
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.read.missing import MissingEntry
from hsstar.store.read.selections import Relation

_log = logging.getLogger(__name__)


def _ignore(progress: RunProgress) -> None:
    """Look at no progress."""


class RunHandle:
    """A run of a database, by its name. Whatever it returns is what the rows say at that moment.

    The selections (`samples`, `problems`, …) have the columns of the public views, which docs/sql.md
    explains. A filter takes one value or several; `"none"` means rows without such a value. Of a fork they
    have the iterations that it did itself.
    """

    def __init__(self, database: Database, settings: Settings, name: str) -> None:
        self.name = name
        self._database = database
        self._settings = settings

    def __repr__(self) -> str:
        return f"<RunHandle {self.name!r}>"

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

    # --- its rows ------------------------------------------------------------------------------------

    def samples(
        self,
        *,
        iteration: OneOrMore[int] | None = None,
        problem_id: OneOrMore[int] | None = None,
        slot: OneOrMore[int] | None = None,
        phase: OneOrMore[PhaseName] | None = None,
        difficulty: OneOrMore[LevelName] | None = None,
        verdict: OneOrMore[VerdictName] | None = None,
        cause: OneOrMore[CauseName] | None = None,
        texts: bool = False,
    ) -> Selection:
        """Select samples of its iterations (view `sample_facts`).

        With `texts` also `statement`, `reference_answer`, `answer`, `response` and `step_rewards`; a response
        is null once it was pruned.
        """
        return self._select(
            "samples_with_texts" if texts else "sample_facts",
            iteration=iteration,
            problem_id=problem_id,
            slot=slot,
            phase=phase,
            difficulty=difficulty,
            verdict=verdict,
            cause=cause,
        )

    def problems(
        self,
        *,
        iteration: OneOrMore[int] | None = None,
        problem_id: OneOrMore[int] | None = None,
        difficulty: OneOrMore[LevelName] | None = None,
        texts: bool = False,
    ) -> Selection:
        """Select problems of its iterations, with φ_a, φ_r and level (view `problem_statistics`).

        With `texts` also `dataset`, `source_id`, `subject`, `statement` and `reference_answer`.
        """
        return self._select(
            "problems_with_texts" if texts else "problem_statistics",
            iteration=iteration,
            problem_id=problem_id,
            difficulty=difficulty,
        )

    def pairs(
        self, *, iteration: OneOrMore[int] | None = None, problem_id: OneOrMore[int] | None = None
    ) -> Selection:
        """Select preference pairs: statement, both responses, their slots and minimum rewards.

        `repeated` says that an earlier pair of the problem has the same two texts.
        """
        return self._select("pairs_with_texts", iteration=iteration, problem_id=problem_id)

    def iterations(self, *, iteration: OneOrMore[int] | None = None) -> Selection:
        """Select iterations with their counts, times and accuracies (view `iteration_statistics`)."""
        return self._select("iteration_statistics", iteration=iteration)

    def evaluations(
        self,
        *,
        iteration: OneOrMore[int] | None = None,
        benchmark: OneOrMore[str] | None = None,
    ) -> Selection:
        """Select a row per policy and benchmark (view `evaluation_results`); `iteration` is the t of M_t."""
        return self._select("evaluation_results", iteration=iteration, benchmark=benchmark)

    def ledger(self, *, iteration: OneOrMore[int] | None = None) -> Selection:
        """Select why each sample was drawn (view `budget_ledger`)."""
        return self._select("budget_ledger", iteration=iteration)

    def lifelines(self, *, measure: OneOrMore[str] | None = None) -> Selection:
        """Select what became of each problem under M_0, M_1, … (view `problem_lifelines`)."""
        return self._select("problem_lifelines", measure=measure)

    def lengths(self) -> Selection:
        """Select lengths of responses by iteration and level (view `response_lengths`)."""
        return self._select("response_lengths")

    def training(self, *, iteration: OneOrMore[int] | None = None) -> Selection:
        """Select a row per optimiser step (view `training_curves`)."""
        return self._select("training_curves", iteration=iteration)

    def weight_updates(self, *, iteration: OneOrMore[int] | None = None) -> Selection:
        """Select what rounding leaves of each weight update (view `weight_updates`)."""
        return self._select("weight_updates", iteration=iteration)

    def verdicts(self, *, problem_id: OneOrMore[int] | None = None) -> Selection:
        """Select all verdicts of samples that have had more than one (view `verdict_history`)."""
        return self._select("verdict_history", problem_id=problem_id)

    def _select(self, relation: Relation, **filters: Any) -> Selection:
        find_run(self._database, self.name)  # a run that is gone is an error, not an empty table
        return Selection.of(self._database, relation, conditions(self.name, **filters))

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
        run = find_run(self._database, self.name)
        progress = wait_for_run(self._database, run, timeout_seconds, look, _log.warning)
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
    ) -> list[RoundReport]:
        """Judge its samples again; return what changed in each round, or would with `dry_run`.

        `verifier` is MODULE:CLASS with the contract of `hsstar.verifier.Verifier`, in place of the recipe's.
        """
        request = ReverifyRequest(
            run=self.name, author=author(), dry_run=dry_run, change_evaluations=change_evaluations
        )
        reports: list[RoundReport] = []
        with closing(reverifying.open_verifiers(verifier)) as opened:
            changes = reverifying.reverify(self._database, request, opened, self._settings, reports)
            deque(changes, maxlen=0)
        return reports

    def export(
        self,
        exported: Exported,
        file: str | Path,
        *,
        layout: str = "hsstar",
        file_format: ExportFormat | None = None,
        **choices: Any,
    ) -> ExportReport:
        """Write its pairs, samples, rewards, difficulty or evaluations to a file, in a published layout.

        `choices` are the other fields of `hsstar.commands.export.ExportRequest`. A file is replaced.
        """
        target = Path(file)
        request = ExportRequest(exported=exported, name=self.name, layout=layout, **choices)
        return exports.export_rows(self._database, request, target, format_of(target, file_format))

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
