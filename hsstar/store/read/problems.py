"""Problems of a run: what its policies made of each, in pages; and how the budget came to one of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from hsstar.domain.selections import Change, Disagreement, Sort
from hsstar.store.database import execute_file, row_of, rows_of
from hsstar.store.read.samples import containing


@dataclass(frozen=True, slots=True)
class MeasuredRound:
    """A round of a run: what is sampled for which policy."""

    round_id: int
    measure: str  # `iteration`, `heldout`, or the key of a benchmark
    number: int  # of the iteration, or t of the policy M_t
    model: str | None
    state: str
    imported: bool  # whether it began with samples of a file, whose problems may be those of another one


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem, and what the policies of a measure made of it; None where something is not known (yet).

    Attributes:
        statement: at most as long as was asked for.
        subject, source_level: as the dataset says.
        level, accuracy, process_quality: label, φ_a and φ_r of its last iteration; None in evaluations.
        pass_rate, mean_reward: share of correct samples, and mean S(r), of the last policy.
        drawn, correct, undecided, cut, pairs: of all policies together.
        overrated: incorrect samples whose reward says that they are right; `underrated` the opposite.
        flips: how often a policy solved it and the one before did not, or the opposite.
        policies: the t of each M_t that has sampled it, ascending; pass_rates and levels are theirs.
        causes: those of its samples, each once.
        exclusion: why it was left out of a round.
        sort_key: its place in the order of the page.
    """

    problem_id: int
    statement: str
    reference: str
    subject: str | None
    source_level: str | None
    level: str | None
    accuracy: float | None
    process_quality: float | None
    pass_rate: float | None
    mean_reward: float | None
    mean_tokens: float | None
    drawn: int
    correct: int
    undecided: int
    overrated: int
    underrated: int
    cut: int
    pairs: int
    flips: int
    policies: tuple[int, ...]
    pass_rates: tuple[float, ...]
    levels: tuple[str | None, ...]
    causes: tuple[str, ...]
    exclusion: str | None
    sort_key: float


@dataclass(frozen=True, slots=True)
class ProblemFilter:
    """Which problems; None lets all pass. `pass_…` are of the last policy, `tokens_…` means of all."""

    problem_id: int | None = None
    level: str | None = None
    accuracy_from: float | None = None
    accuracy_to: float | None = None
    quality_from: float | None = None
    quality_to: float | None = None
    pass_from: float | None = None
    pass_to: float | None = None
    tokens_from: float | None = None
    tokens_to: float | None = None
    cause: str | None = None
    disagreement: Disagreement | None = None
    change: Change | None = None
    text: str | None = None  # in the statement, in any case


class ProblemKey(NamedTuple):
    """Where a page of problems ended."""

    sort_key: float
    problem_id: int


def list_rounds(connection: Connection, run_id: int) -> list[MeasuredRound]:
    """Return the iterations and evaluations of a run, with those that a fork shares; iterations first."""
    rows = connection.execute(
        text("""
            SELECT rounds.id AS round_id, coalesce(nullif(evaluation_key, ''), 'iteration') AS measure,
                number, models.name AS model, round_states.state, imported IS NOT NULL AS imported
            FROM rounds
            JOIN round_states ON round_states.round_id = rounds.id
            LEFT JOIN models ON models.id = rounds.model_id
            LEFT JOIN iterations ON iterations.round_id = rounds.id
            WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND kind IN ('iteration', 'evaluation')
            ORDER BY kind DESC, evaluation_key, number, rounds.id
        """),
        {"run_id": run_id},
    )
    return rows_of(rows, MeasuredRound)


def problem_page(
    connection: Connection,
    round_ids: Sequence[int],
    wanted: ProblemFilter,
    *,
    each_once: bool = False,
    sort: Sort = "problem",
    descending: bool = False,
    after: ProblemKey | None = None,
    at_most: int = 50,
    characters: int | None = None,
) -> list[ProblemRow]:
    """Return the next problems of rounds of one measure, in this order; equal ones by their ids.

    It is quicker if `each_once` promises that no problem is in two of them.
    """
    plain = sort == "problem" and wanted == ProblemFilter()
    first = _next_problems(connection, round_ids, after and after.problem_id, at_most) if plain else None
    values = asdict(wanted) | {
        "round_ids": list(round_ids),
        "problem_ids": first,
        "each_once": each_once or len(round_ids) == 1,
        "difficulty": wanted.level,
        "text": None if wanted.text is None else containing(wanted.text),
        "sort": sort,
        "descending": descending,
        "after_key": after and after.sort_key,
        "after_problem": after and after.problem_id,
        "at_most": at_most,
        "characters": characters,
    }
    return [_row(**row) for row in execute_file(connection, "problem_page", values).mappings()]


def _next_problems(
    connection: Connection, round_ids: Sequence[int], after: int | None, at_most: int
) -> list[int]:
    """Return the ids of the next problems of rounds; an index has them, where no filter asks for more."""
    query = text("""
        SELECT DISTINCT next.problem_id FROM unnest(CAST(:round_ids AS bigint[])) AS round_id
        CROSS JOIN LATERAL (
            SELECT problem_id FROM round_problems
            WHERE round_problems.round_id = round_id.round_id AND problem_id > :after
            ORDER BY problem_id LIMIT :at_most
        ) AS next
        ORDER BY 1 LIMIT :at_most
    """)
    values = {"round_ids": list(round_ids), "after": after or 0, "at_most": at_most}
    return list(connection.execute(query, values).scalars())


def _row(**values: Any) -> ProblemRow:
    arrays = {name: tuple(values[name]) for name in ("policies", "pass_rates", "levels", "causes")}
    return ProblemRow(**values | arrays)


@dataclass(frozen=True, slots=True)
class AllocationStep:
    """What a problem got of an iteration's budget at once.

    Attributes:
        wave: None for its pre-samples.
        first_slot: the slots are those from it on.
        correct_before, incorrect_before: the samples that the wave knew; None for pre-samples.
        gains: what the allocation policy says that each of these samples is worth; empty for pre-samples.
    """

    iteration: int
    wave: int | None
    first_slot: int
    samples: int
    correct_before: int | None
    incorrect_before: int | None
    gains: tuple[float, ...]


def problem_allocations(
    connection: Connection, round_ids: Sequence[int], problem_id: int
) -> list[AllocationStep]:
    """Return how the budget of these iterations came to a problem, step by step."""
    values = {"round_ids": list(round_ids), "problem_id": problem_id}
    rows = execute_file(connection, "problem_allocations", values).mappings()
    return [AllocationStep(**{**row, "gains": tuple(row["gains"])}) for row in rows]


@dataclass(frozen=True, slots=True)
class ProblemText:
    """A problem as its dataset has it."""

    problem_id: int
    dataset: str
    key: str  # identifies its content
    statement: str
    reference: str
    reference_readable: bool
    solution: str | None
    subject: str | None
    source_level: str | None
    source_id: str | None


def find_problem(connection: Connection, problem_id: int) -> ProblemText | None:
    """Return the problem of this id; None without it."""
    rows = connection.execute(
        text("""
            SELECT problems.id AS problem_id, datasets.name AS dataset, key, statement,
                reference_answer AS reference, reference_readable, solution, subject, level AS source_level,
                source_id
            FROM problems JOIN datasets ON datasets.id = dataset_id WHERE problems.id = :id
        """),
        {"id": problem_id},
    )
    return row_of(rows, ProblemText)


def rounds_with(connection: Connection, round_ids: Sequence[int], problem_id: int) -> list[int]:
    """Return those of these rounds that have a problem."""
    query = text("""
        SELECT round_id FROM round_problems
        WHERE round_id = ANY (CAST(:round_ids AS bigint[])) AND problem_id = :problem_id
    """)
    values = {"round_ids": list(round_ids), "problem_id": problem_id}
    return list(connection.execute(query, values).scalars())


def neighbours(
    connection: Connection, round_ids: Sequence[int], problem_id: int
) -> tuple[int | None, int | None]:
    """Return the ids of the problems before and after one in these rounds; None at the ends."""
    row = connection.execute(
        text("""
            SELECT max(before) AS before, min(after) AS after
            FROM unnest(CAST(:round_ids AS bigint[])) AS of_run (round_id)
            CROSS JOIN LATERAL (
                SELECT max(problem_id) AS before FROM round_problems
                WHERE round_problems.round_id = of_run.round_id AND problem_id < :problem_id
            ) AS lower
            CROSS JOIN LATERAL (
                SELECT min(problem_id) AS after FROM round_problems
                WHERE round_problems.round_id = of_run.round_id AND problem_id > :problem_id
            ) AS higher
        """),
        {"round_ids": list(round_ids), "problem_id": problem_id},
    ).one()
    return row.before, row.after


def statements(connection: Connection, problem_ids: Sequence[int], characters: int | None) -> dict[int, str]:
    """Return the statements of problems by their ids, cut to so many characters."""
    rows = connection.execute(
        text("""
            SELECT id, left(statement, coalesce(CAST(:characters AS int), length(statement))) AS statement
            FROM problems WHERE id = ANY (CAST(:ids AS bigint[]))
        """),
        {"ids": list(problem_ids), "characters": characters},
    )
    return {row.id: row.statement for row in rows}
