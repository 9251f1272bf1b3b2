"""The rows of a run, as selections of the public views."""

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
from hsstar.domain.selections import Sort
from hsstar.insights.problems import ProblemDetail, ProblemPage, list_by_preset, show_problem
from hsstar.insights.runs import find_run
from hsstar.insights.samples import SamplePage, list_samples
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.read.problems import ProblemFilter
from hsstar.store.read.samples import SampleFilter
from hsstar.store.read.selections import Relation


class RunRows:
    """A run of a database, by its name, and its rows.

    The selections (`samples`, `problems`, …) have the columns of the public views, which docs/sql.md
    explains. A filter takes one value or several; `"none"` means rows without such a value. Of a fork they
    have the iterations that it did itself.
    """

    def __init__(self, database: Database, settings: Settings, name: str) -> None:
        self.name = name
        self._database = database
        self._settings = settings

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

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

    # --- pages of it ---------------------------------------------------------------------------------

    def sample_page(
        self,
        wanted: SampleFilter | None = None,
        *,
        after: str | None = None,
        limit: int = 10,
        characters: int | None = None,
    ) -> SamplePage:
        """Return samples with all that is known of them, also of its evaluations, as `hsstar samples show`.

        `after` is the `next` of the page before. Responses are cut to so many `characters`.
        """
        return list_samples(
            self._database, self.name, wanted, after=after, at_most=limit, characters=characters
        )

    def problem_page(
        self,
        preset: str = "all",
        wanted: ProblemFilter | None = None,
        *,
        measure: str | None = None,
        iteration: int | None = None,
        sort: Sort | None = None,
        descending: bool = False,
        after: str | None = None,
        limit: int = 20,
    ) -> ProblemPage:
        """Return problems with what its policies made of each, as `hsstar problems show` does.

        The presets: `all`, `boundary`, `overrated`, `underrated`, `learnt`, `forgotten`, `flipped`,
        `never-right`, `timed-out`, `check-failed`. `wanted` and `sort` replace what a preset says; `measure`
        is `iteration`, `heldout` or a benchmark's, else the first that it has.
        """
        return list_by_preset(
            self._database, self.name, preset, measure, wanted, iteration=iteration, sort=sort,
            descending=descending, after=after, at_most=limit,
        )  # fmt: skip

    def problem(self, problem_id: int) -> ProblemDetail:
        """Return a problem with its history, its samples and their pairs; raise NotFoundError without it."""
        return show_problem(self._database, self.name, problem_id, characters=None)

    def _select(self, relation: Relation, **filters: Any) -> Selection:
        find_run(self._database, self.name)  # a run that is gone is an error, not an empty table
        return Selection.of(self._database, relation, conditions(self.name, **filters))
