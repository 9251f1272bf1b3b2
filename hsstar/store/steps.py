"""Rounds that continue prefixes of an iteration's responses, for the labels of their steps.

Every different prefix of a problem is continued equally often: slot number · continuations + j is the j-th
continuation of that prefix. The response of such a sample is the prefix and what follows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, text

from hsstar.domain.step_labels import first_with_prefix
from hsstar.store.database import analyse_rounds, execute_file, refresh_statistics, row_of, rows_of
from hsstar.store.rounds import Round, add_round


@dataclass(frozen=True, slots=True)
class JudgedResponse:
    """A response with a verdict, and its problem."""

    problem_id: int
    problem_key: str
    statement: str
    sample_id: int
    response: str
    correct: bool


@dataclass(frozen=True, slots=True)
class PrefixCounts:
    """A prefix, as the beginning of a sample's response, and the verdicts on its continuations."""

    problem_id: int
    sample_id: int
    characters: int
    correct: int
    incorrect: int


_ROUNDS = """
    SELECT id, run_id, kind, number, model_id
    FROM rounds JOIN step_rounds ON step_rounds.round_id = rounds.id
    WHERE run_id = :run_id
"""


def ensure_step_round(
    connection: Connection,
    iteration: Round,
    responses: int,
    continuations: int,
    prefixes: Mapping[int, Sequence[tuple[int, int]]],
) -> Round:
    """Return the round that continues the first responses of an iteration; add it if the run has none.

    `prefixes` is that of `different_prefixes`. The caller holds the run's lock, and the iteration has all its
    verdicts.
    """
    key = f"step labels of {responses} responses by {continuations} continuations"
    query = text(f"{_ROUNDS} AND number = :number AND evaluation_key = :key")
    values = {"run_id": iteration.run_id, "number": iteration.number, "key": key}
    known = row_of(connection.execute(query, values), Round)
    if known is not None:
        return known
    added = add_round(connection, iteration.run_id, "steps", iteration.number, iteration.model_id, key)
    connection.execute(
        text("""
            INSERT INTO step_rounds (round_id, responses, continuations)
            VALUES (:id, :responses, :continuations)
        """),
        {"id": added.id, "responses": responses, "continuations": continuations},
    )
    _add_prefixes(connection, added.id, prefixes, continuations)
    return added


def _add_prefixes(
    connection: Connection,
    round_id: int,
    prefixes: Mapping[int, Sequence[tuple[int, int]]],
    continuations: int,
) -> None:
    """Assign the problems of these prefixes, in their order, with as many slots as they need."""
    connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment)
            SELECT :round_id, problem_id, place - 1, :each * prefixes
            FROM unnest(CAST(:problems AS bigint[]), CAST(:prefixes AS int[])) WITH ORDINALITY
                AS assigned (problem_id, prefixes, place)
        """),
        {
            "round_id": round_id,
            "each": continuations,
            "problems": list(prefixes),
            "prefixes": list(map(len, prefixes.values())),
        },
    )
    rows = [
        (problem, number, sample_id, characters)
        for problem, of_problem in prefixes.items()
        for number, (sample_id, characters) in enumerate(of_problem)
    ]
    connection.execute(
        text("""
            INSERT INTO step_prefixes (round_id, problem_id, number, sample_id, characters)
            SELECT :round_id, * FROM unnest(
                CAST(:problems AS bigint[]), CAST(:numbers AS int[]), CAST(:samples AS bigint[]),
                CAST(:characters AS int[])
            )
        """),
        {
            "round_id": round_id,
            "problems": [problem for problem, _, _, _ in rows],
            "numbers": [number for _, number, _, _ in rows],
            "samples": [sample_id for _, _, sample_id, _ in rows],
            "characters": [characters for _, _, _, characters in rows],
        },
    )
    analyse_rounds(connection)
    refresh_statistics(connection, "step_prefixes")


def different_prefixes(
    judged: Sequence[JudgedResponse], prefixes: Sequence[Sequence[str]]
) -> dict[int, list[tuple[int, int]]]:
    """Return the first sample and the length of every different prefix, by problem; the order stays.

    `prefixes` are those of each response.
    """
    different = {}
    together = zip(judged, prefixes, strict=True)
    for problem, of_problem in groupby(together, key=lambda pair: pair[0].problem_id):
        responses, own = zip(*of_problem, strict=True)
        first = first_with_prefix(own)
        different[problem] = [(responses[place].sample_id, len(prefix)) for prefix, place in first.items()]
    return different


def load_judged(connection: Connection, iteration_id: int, responses: int) -> list[JudgedResponse]:
    """Return the first responses of each problem of an iteration that have a verdict, in its order."""
    values = {"round_id": iteration_id, "responses": responses}
    return rows_of(execute_file(connection, "judged_responses", values), JudgedResponse)


def load_prefix_counts(connection: Connection, round_id: int) -> list[PrefixCounts]:
    """Return the prefixes of a round with the verdicts on their continuations."""
    return rows_of(execute_file(connection, "prefix_counts", {"round_id": round_id}), PrefixCounts)


def list_unfinished(connection: Connection, run_id: int) -> list[Round]:
    """Return the rounds of a run that lack continuations or verdicts on them."""
    query = text(f"{_ROUNDS} AND finished_at IS NULL ORDER BY id")
    return rows_of(connection.execute(query, {"run_id": run_id}), Round)


def finish(connection: Connection, round_id: int) -> bool:
    """Record that a round lacks nothing; return False if somebody else has done so."""
    query = text("UPDATE step_rounds SET finished_at = now() WHERE round_id = :id AND finished_at IS NULL")
    return connection.execute(query, {"id": round_id}).rowcount == 1


def is_finished(connection: Connection, round_id: int) -> bool:
    """Tell whether a round lacks nothing."""
    query = text("SELECT finished_at IS NOT NULL FROM step_rounds WHERE round_id = :id")
    finished: bool = connection.execute(query, {"id": round_id}).scalar_one()
    return finished
