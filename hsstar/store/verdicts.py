"""Verdicts on samples that have one already: kept in the history, and put in force where the round is open.

Open is an iteration with sampling left to do, an evaluation that is not done or that the user wants changed,
and a round of continuations or of a source that is not done. The labels, allotments and pairs of any other
iteration have followed from its verdicts; so new ones stand beside those in force.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.text import storable
from hsstar.domain.verdict import Judgement
from hsstar.store import method, rounds, runs, stored_outcomes
from hsstar.store.database import execute_file, lock_run, row_of, rows_of
from hsstar.store.rounds import Round
from hsstar.store.samples import verdict_columns


@dataclass(frozen=True, slots=True)
class Author:
    """Who judges: a version of the verifier, or a person with a reason."""

    name: str
    verifier: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NamedRound:
    """A round, and how a person calls it."""

    round_id: int
    run_id: int
    run: str
    name: str  # as in `iteration 0` or `evaluation 1 heldout`
    texts_pruned: int  # samples without their text


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """A sample with its verdict in force, and what else labels and pairs follow from."""

    id: int
    problem_id: int
    problem_key: str
    slot: int
    statement: str
    source_id: str | None
    reference_answer: str
    response: str
    truncated: bool
    cause: str | None
    answer: str | None
    pair_reward: float | None
    tokens: int | None
    text_hash: int
    level: str | None  # label of the problem
    process_quality: float | None
    corrected: bool | None  # whether a person has judged it; None if it has had one verdict


_ROUNDS = """
    SELECT rounds.id AS round_id, run_id, runs.name AS run, texts_pruned,
        concat_ws(' ', kind, number, nullif(evaluation_key, '')) AS name
    FROM rounds JOIN runs ON runs.id = run_id
"""


def list_rounds(
    connection: Connection, *, run_id: int | None, evaluation_id: int | None, dataset_id: int | None
) -> list[NamedRound]:
    """Return the rounds of a run, an evaluation, or every round with problems of a dataset, oldest first."""
    values = {"run_id": run_id, "evaluation_id": evaluation_id, "dataset_id": dataset_id}
    query = text(f"""{_ROUNDS}
        WHERE run_id = :run_id OR (kind = 'evaluation' AND rounds.id = :evaluation_id) OR EXISTS (
            SELECT FROM round_problems JOIN problems ON problems.id = problem_id
            WHERE round_id = rounds.id AND dataset_id = :dataset_id
        )
        ORDER BY rounds.id
    """)
    return rows_of(connection.execute(query, values), NamedRound)


def no_evaluation(round_id: int) -> NotFoundError:
    """Return the error of a number that no evaluation has."""
    return NotFoundError(f"there is no evaluation {round_id}; the view evaluation_results has their round_id")


def list_problems(connection: Connection, round_id: int, dataset_id: int | None) -> list[int]:
    """Return the ids of a round's problems (of one dataset), in order."""
    query = text("""
        SELECT problem_id FROM round_problems JOIN problems ON problems.id = problem_id
        WHERE round_id = :id AND (CAST(:dataset_id AS bigint) IS NULL OR dataset_id = :dataset_id)
        ORDER BY problem_id
    """)
    return list(connection.execute(query, {"id": round_id, "dataset_id": dataset_id}).scalars())


def load_judged(connection: Connection, round_id: int, problem_ids: list[int]) -> list[JudgedSample]:
    """Return all samples of these problems of a round, by problem and slot; those without verdict too."""
    values = {"round_id": round_id, "problem_ids": problem_ids}
    return rows_of(execute_file(connection, "judged_samples", values), JudgedSample)


def find_sample(connection: Connection, sample_id: int) -> tuple[NamedRound, JudgedSample]:
    """Return a verified sample and its round; NotFoundError without it, ConflictError without a verdict."""
    query = text(f"{_ROUNDS} JOIN samples ON round_id = rounds.id WHERE samples.id = :id")
    named = row_of(connection.execute(query, {"id": sample_id}), NamedRound)
    if named is None:
        raise NotFoundError(f"there is no sample {sample_id}; the view sample_facts has their numbers")
    problem_id = connection.execute(
        text("SELECT problem_id FROM samples WHERE id = :id"), {"id": sample_id}
    ).scalar_one()
    (sample,) = (row for row in load_judged(connection, named.round_id, [problem_id]) if row.id == sample_id)
    if sample.cause is None:
        raise ConflictError(f"sample {sample_id} has no verdict yet; the workers give the first one")
    return named, sample


def is_open(connection: Connection, round_id: int, *, change_evaluations: bool) -> bool:
    """Tell whether new verdicts come into force; `change_evaluations` opens evaluations that are done."""
    query = text("""
        SELECT CASE kind
            WHEN 'iteration' THEN iterations.state IN ('pre_sampling', 're_sampling')
                -- with work to do, nobody labels all, shares a wave out or builds pairs
                AND EXISTS (SELECT FROM jobs WHERE round_id = :id AND jobs.state IN ('queued', 'running'))
            WHEN 'evaluation' THEN :told OR evaluations.finished_at IS NULL
            ELSE coalesce(step_rounds.finished_at, source_rounds.finished_at) IS NULL
        END
        FROM rounds
        LEFT JOIN iterations ON iterations.round_id = rounds.id
        LEFT JOIN evaluations ON evaluations.round_id = rounds.id
        LEFT JOIN step_rounds ON step_rounds.round_id = rounds.id
        LEFT JOIN source_rounds ON source_rounds.round_id = rounds.id
        WHERE rounds.id = :id
    """)
    return bool(connection.scalar(query, {"id": round_id, "told": change_evaluations}))


def append(
    connection: Connection,
    round_id: int,
    judgements: Mapping[int, Judgement],
    problem_ids: list[int],
    author: Author,
    *,
    change_evaluations: bool,
) -> bool:
    """Append judgements of samples of these problems, by sample id; return whether they came into force.

    What follows from them is computed again: labels of an iteration in pre-sampling here, votes and accuracy
    of an evaluation by the conductor, which finds it unfinished. A second run changes nothing.
    """
    of_round = rounds.get_round(connection, round_id)
    lock_run(connection, of_round.run_id)  # the conductor moves no round meanwhile
    adopted = is_open(connection, round_id, change_evaluations=change_evaluations)
    values = {
        "verifier": author.verifier,
        "author": storable(author.name),
        "reason": None if author.reason is None else storable(author.reason),
        "adopted": adopted,
    }
    sample_ids = sorted(judgements)
    columns = verdict_columns(sample_ids, [judgements[sample_id] for sample_id in sample_ids])
    appended = execute_file(connection, "append_verdicts", values | columns).rowcount
    if adopted and appended:
        _derive(connection, of_round, problem_ids)
    return adopted


def _derive(connection: Connection, changed: Round, problem_ids: list[int]) -> None:
    values = {"id": changed.id, "problem_ids": problem_ids}
    if changed.kind == "evaluation":
        connection.execute(
            text("""
                UPDATE evaluations SET finished_at = NULL, accuracy = NULL, standard_error = NULL
                WHERE round_id = :id AND finished_at IS NOT NULL
            """),
            values,
        )
        rounds.set_looked_at(connection, [changed.id], None)
        stored_outcomes.use(connection, changed.id, stored=False)
    elif changed.kind == "iteration":
        labels = connection.execute(
            text("""
                DELETE FROM difficulty_labels USING iterations
                WHERE iterations.round_id = :id AND iterations.state = 'pre_sampling'
                  AND difficulty_labels.round_id = :id AND problem_id = ANY (:problem_ids)
            """),
            values,
        )
        if labels.rowcount:
            method.label_problems(connection, runs.get_run(connection, changed.run_id), changed, problem_ids)
