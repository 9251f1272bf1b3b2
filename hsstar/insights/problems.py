"""Datasets of problems; the problems of a run as a table, and one of them with everything that was drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection

from hsstar.domain.addresses import ITERATION
from hsstar.domain.errors import BadInputError, NotFoundError
from hsstar.domain.selections import Sort
from hsstar.domain.suggestions import did_you_mean
from hsstar.store import datasets, runs
from hsstar.store.database import Database
from hsstar.store.read import problems, samples
from hsstar.store.read.problems import (
    AllocationStep,
    MeasuredRound,
    ProblemFilter,
    ProblemKey,
    ProblemRow,
    ProblemText,
)
from hsstar.store.read.samples import Sample, SampleFilter
from hsstar.store.runs import Run

STATEMENT_CHARACTERS = 400
"""Of a statement in a table of problems."""
_MOST_SAMPLES = 1_000
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A dataset as a list of datasets shows it."""

    dataset: str
    problems: int
    unreadable_references: int


def list_datasets(database: Database) -> list[DatasetEntry]:
    """Return every dataset with its counts, by name."""
    with database.begin() as connection:
        rows = datasets.list_datasets(connection)
    return [DatasetEntry(row.name, row.problems, row.unreadable) for row in rows]


# --- the table of problems -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preset:
    """A table of problems that people often want."""

    title: str
    filter: ProblemFilter
    sort: Sort = "problem"
    descending: bool = False


PRESETS: Mapping[str, Preset] = {
    "all": Preset("all problems", ProblemFilter()),
    "boundary": Preset("boundary", ProblemFilter(level="boundary")),
    "overrated": Preset(
        "reward says right, verifier says wrong", ProblemFilter(disagreement="overrated"), "overrated", True
    ),
    "underrated": Preset(
        "verifier says right, reward says wrong", ProblemFilter(disagreement="underrated"), "underrated", True
    ),
    "learnt": Preset("learnt", ProblemFilter(change="learnt"), "pass", True),
    "forgotten": Preset("forgotten", ProblemFilter(change="forgotten"), "pass"),
    "flipped": Preset("flipped between policies", ProblemFilter(change="flipped"), "flips", True),
    "never-right": Preset("never right", ProblemFilter(change="never"), "reward", True),
    "timed-out": Preset("timed out", ProblemFilter(cause="timed_out")),
    "check-failed": Preset("check failed", ProblemFilter(cause="check_failed")),
}
"""By the name that a command or an address has for them."""


def find_preset(name: str) -> Preset:
    """Return the preset of this name; raise NotFoundError, which lists them, without it."""
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise NotFoundError(f"there is no preset {name!r} (there are: {known}){did_you_mean(name, PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True, slots=True)
class Measure:
    """What of a run has problems in common: its iterations, or the evaluations on one dataset."""

    name: str  # `iteration`, `heldout`, or the key of a benchmark
    rounds: tuple[MeasuredRound, ...]  # by policy

    @property
    def numbers(self) -> tuple[int, ...]:
        """The iterations, or the t of each measured M_t."""
        return tuple(row.number for row in self.rounds)


@dataclass(frozen=True, slots=True)
class ProblemPage:
    """Some problems in order, and the key of the next page; None on the last one."""

    measure: str
    problems: list[ProblemRow]
    next: str | None


def list_measures(database: Database, run: str) -> list[Measure]:
    """Return the measures of a run, its iterations first; raise NotFoundError without the run."""
    with database.begin() as connection:
        return _measures(connection, runs.find_run(connection, run).id)


def list_problems(
    database: Database,
    run: str,
    measure: str | None = None,
    wanted: ProblemFilter | None = None,
    *,
    iteration: int | None = None,
    sort: Sort = "problem",
    descending: bool = False,
    after: str | None = None,
    at_most: int = 50,
    characters: int | None = STATEMENT_CHARACTERS,
) -> ProblemPage:
    """Return a page of the problems of a measure of a run; `after` is the key of the page before it.

    Without a measure: of the iterations, or of the first evaluation where there is none. With `iteration`
    only one iteration or policy counts. Statements are cut to so many `characters` (None: not). Raise
    NotFoundError without run, measure or iteration, BadInputError if `after` is no key.
    """
    key = None if after is None else _read_key(after)
    with database.begin() as connection:
        stored = runs.find_run(connection, run)
        measured = _find_measure(connection, stored, measure, iteration)
        rows = problems.problem_page(
            connection,
            [row.round_id for row in measured.rounds],
            wanted or ProblemFilter(),
            each_once=_has_each_once(stored, measured),
            sort=sort,
            descending=descending,
            after=key,
            at_most=at_most + 1,
            characters=characters,
        )
    more = len(rows) > at_most
    page = rows[:at_most]
    return ProblemPage(measured.name, page, _written_key(page[-1]) if more else None)


def list_by_preset(
    database: Database,
    run: str,
    preset: str,
    measure: str | None = None,
    wanted: ProblemFilter | None = None,
    *,
    iteration: int | None = None,
    sort: Sort | None = None,
    descending: bool = False,
    after: str | None = None,
    at_most: int = 50,
) -> ProblemPage:
    """Return a page as `list_problems` does, by the filter and order of a preset.

    What `wanted`, `sort` and `descending` say replaces that of the preset.
    """
    chosen = find_preset(preset)
    changes = {name: value for name, value in asdict(wanted or ProblemFilter()).items() if value is not None}
    return list_problems(
        database,
        run,
        measure,
        replace(chosen.filter, **changes),
        iteration=iteration,
        sort=sort or chosen.sort,
        descending=descending or (sort is None and chosen.descending),
        after=after,
        at_most=at_most,
    )


def _measures(connection: Connection, run_id: int) -> list[Measure]:
    rounds: dict[str, list[MeasuredRound]] = {}
    for row in problems.list_rounds(connection, run_id):
        rounds.setdefault(row.measure, []).append(row)
    return [Measure(name, tuple(rows)) for name, rows in rounds.items()]


def _has_each_once(run: Run, measure: Measure) -> bool:
    """Tell whether no problem can be in two rounds of a measure."""
    drawn_here = not any(row.imported for row in measure.rounds)
    return measure.name == ITERATION and run.recipe.problems.repeat == "never" and drawn_here


def _find_measure(connection: Connection, run: Run, name: str | None, iteration: int | None) -> Measure:
    measures = {measure.name: measure for measure in _measures(connection, run.id)}
    if not measures:
        raise NotFoundError(f"run {run.name!r} has no problems yet; start it: hsstar iterate {run.name}")
    measure = measures.get(next(iter(measures)) if name is None else name)
    if measure is None:
        raise NotFoundError(
            f"run {run.name!r} has no measure {name!r} (it has: {', '.join(measures)})"
            f"{did_you_mean(name or '', measures)}"
        )
    if iteration is None:
        return measure
    if iteration not in measure.numbers:
        known = ", ".join(map(str, measure.numbers))
        raise NotFoundError(f"run {run.name!r} has no {measure.name} {iteration}; it has: {known}")
    return replace(measure, rounds=tuple(row for row in measure.rounds if row.number == iteration))


def _written_key(row: ProblemRow) -> str:
    return f"{row.sort_key!r}:{row.problem_id}"


def _read_key(text: str) -> ProblemKey:
    sort_key, _, problem_id = text.partition(":")
    try:
        return ProblemKey(float(sort_key), int(problem_id))
    except ValueError:
        raise BadInputError(
            f"{text!r} is no key of a page of problems; take the one that the page before gives"
        ) from None


# --- one problem -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProblemDetail:
    """A problem of a run with all that was drawn for it.

    Attributes:
        tables: its row by measure that has it; `policies` and `pass_rates` are its life line.
        samples: of all iterations and policies, by round and slot; with long responses cut.
        more_samples: whether there are others.
        allocations: how the budgets of its iterations came to it.
        before, after: the problems beside it in these rounds, by their ids; None at the ends.
    """

    run: str
    problem: ProblemText
    tables: dict[str, ProblemRow]
    samples: list[Sample]
    more_samples: bool
    allocations: list[AllocationStep]
    before: int | None
    after: int | None

    @property
    def pairs(self) -> list[tuple[Sample, Sample]]:
        """The preference pairs made of its samples, chosen first; of those samples that are here."""
        places = {(sample.round_id, sample.slot): sample for sample in self.samples}
        chosen = [sample for sample in self.samples if sample.pair == "chosen"]
        return [
            (sample, partner)
            for sample in chosen
            if (partner := places.get((sample.round_id, sample.partner_slot or 0))) is not None
        ]


def show_problem(
    database: Database,
    run: str,
    problem_id: int,
    *,
    at_most: int = _MOST_SAMPLES,
    characters: int | None = _MOST_CHARACTERS,
) -> ProblemDetail:
    """Return a problem of a run; raise NotFoundError without the run, or if none of its rounds has it."""
    with database.begin() as connection:
        run_id = runs.find_run(connection, run).id
        measures = _measures(connection, run_id)
        every = [row.round_id for measure in measures for row in measure.rounds]
        having = set(problems.rounds_with(connection, every, problem_id))
        problem = problems.find_problem(connection, problem_id)
        if problem is None or not having:
            raise NotFoundError(f"run {run!r} has no problem {problem_id}; see hsstar problems show {run}")
        own = {
            measure.name: [row.round_id for row in measure.rounds if row.round_id in having]
            for measure in measures
        }
        own = {name: round_ids for name, round_ids in own.items() if round_ids}
        drawn = samples.sample_page(
            connection,
            run_id,
            SampleFilter(problem_id=problem_id),
            at_most=at_most + 1,
            characters=characters,
        )
        before, after = problems.neighbours(connection, _beside(measures, own), problem_id)
        return ProblemDetail(
            run,
            problem,
            {name: _row(connection, round_ids, problem_id) for name, round_ids in own.items()},
            drawn[:at_most],
            len(drawn) > at_most,
            problems.problem_allocations(connection, own.get(ITERATION, []), problem_id),
            before,
            after,
        )


def _beside(measures: Sequence[Measure], own: Mapping[str, Sequence[int]]) -> list[int]:
    """Return the rounds of the first measure that has the problem."""
    first = next(iter(own))
    return [row.round_id for measure in measures if measure.name == first for row in measure.rounds]


def _row(connection: Connection, round_ids: Sequence[int], problem_id: int) -> ProblemRow:
    (row,) = problems.problem_page(connection, round_ids, ProblemFilter(problem_id=problem_id), at_most=1)
    return row


def statements_of(
    database: Database, problem_ids: Sequence[int], characters: int | None = STATEMENT_CHARACTERS
) -> dict[int, str]:
    """Return the statements of problems by their ids; unknown ids are left out."""
    with database.begin() as connection:
        return problems.statements(connection, problem_ids, characters)
