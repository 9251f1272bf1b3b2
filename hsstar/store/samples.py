"""Samples, responses and verdicts: what jobs on samples read and write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.text import storable
from hsstar.domain.verdict import LASTING_CAUSES, LONGEST_DETAIL, Cause, CheckResult, Judgement
from hsstar.store.database import execute_file, rows_of
from hsstar.store.queue.jobs import Job


@dataclass(frozen=True, slots=True)
class Slot:
    """The address of a sample within its round, with the problem to sample for."""

    problem_id: int
    problem_key: str
    statement: str
    slot: int
    prefix: str = ""  # the beginning of the response, which is not drawn
    wave: int = 0  # of re-sampling, from 1 on; 0: a pre-sample, or not of an iteration


@dataclass(frozen=True, slots=True)
class DrawnSample:
    """A sample to be written; an imported sample leaves unknown fields None."""

    problem_id: int
    slot: int
    response: str
    seed: int | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    cumulative_logprob: float | None = None
    engine: str | None = None
    milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample to be verified or scored."""

    id: int
    problem_id: int
    statement: str
    reference_answer: str
    response: str
    tokens: int | None
    truncated: bool
    source_id: str | None


def load_missing_slots(connection: Connection, job: Job) -> list[Slot]:
    """Return the slots of a sampling job that are not drawn yet, problem by problem."""
    values = {"job_id": job.id, "round_id": job.round_id}
    return rows_of(execute_file(connection, "missing_slots", values), Slot)


def find_slot(connection: Connection, round_id: int, problem_id: int, slot: int) -> Slot:
    """Return the slot of a problem that a round has."""
    values = {"round_id": round_id, "problem_id": problem_id, "slot": slot}
    (found,) = rows_of(execute_file(connection, "slot_at", values), Slot)
    return found


def has_text(connection: Connection, sample_id: int, response: str) -> bool:
    """Tell whether a response, stored or pruned by now, is this one, by its hash."""
    query = text("SELECT text_hash = hashtextextended(:response, 0) FROM samples WHERE id = :id")
    return bool(connection.scalar(query, {"id": sample_id, "response": response}))


def write_samples(
    connection: Connection,
    round_id: int,
    model_id: int | None,
    worker: str,
    drawn: Sequence[DrawnSample],
    job_id: int | None = None,
) -> int:
    """Write samples with their responses, of a job or imported; return how many were new.

    An occupied slot keeps its sample.
    """
    written = 0
    for start in range(0, len(drawn), _ROWS_A_STATEMENT):
        part = drawn[start : start + _ROWS_A_STATEMENT]
        values = {
            "round_id": round_id,
            "model_id": model_id,
            "worker": worker,
            "job_id": job_id,
            "problem_ids": [sample.problem_id for sample in part],
            "slots": [sample.slot for sample in part],
            "responses": [storable(sample.response) for sample in part],
            "seeds": [sample.seed for sample in part],
            "tokens": [sample.tokens for sample in part],
            "finish_reasons": [sample.finish_reason for sample in part],
            "logprobs": [sample.cumulative_logprob for sample in part],
            "engines": [sample.engine for sample in part],
            "milliseconds": [sample.milliseconds for sample in part],
        }
        written += execute_file(connection, "write_samples", values).rowcount
    return written


_ROWS_A_STATEMENT = 2_000
"""A statement holds the texts of its rows in memory, here and in the server."""

_JOB_SAMPLES = """
    SELECT samples.id, samples.problem_id, statement, reference_answer, response, tokens,
        coalesce(finish_reason = 'length', false) AS truncated, source_id
    FROM job_items
    JOIN samples
        ON samples.round_id = :round_id
        AND samples.problem_id = job_items.problem_id
        AND samples.slot = ANY (job_items.slots)
    JOIN problems ON problems.id = samples.problem_id
    JOIN sample_responses ON sample_responses.sample_id = samples.id
    WHERE job_items.job_id = :job_id
"""


def load_unverified(connection: Connection, job: Job) -> list[StoredSample]:
    """Return the samples of a verification job that have no verdict yet."""
    query = text(f"{_JOB_SAMPLES} AND cause IS NULL ORDER BY samples.id")
    return rows_of(connection.execute(query, {"job_id": job.id, "round_id": job.round_id}), StoredSample)


def load_unscored(connection: Connection, job: Job) -> list[StoredSample]:
    """Return the samples of a scoring job that lack a reward."""
    query = text(f"{_JOB_SAMPLES} AND min_reward IS NULL ORDER BY samples.id")
    return rows_of(connection.execute(query, {"job_id": job.id, "round_id": job.round_id}), StoredSample)


def write_verdicts(
    connection: Connection,
    worker: str,
    verifier_version: str,
    sample_ids: Sequence[int],
    judgements: Sequence[Judgement],
) -> None:
    """Write verdict, cause with its detail, and extracted answer of samples that have none yet."""
    values = {"worker": worker, "verifier": verifier_version}
    execute_file(connection, "write_verdicts", values | verdict_columns(sample_ids, judgements))


def verdict_columns(sample_ids: Sequence[int], judgements: Sequence[Judgement]) -> dict[str, object]:
    """Return judgements as the arrays that statements read, one per column."""
    answers = [judgement.answer for judgement in judgements]
    return {
        "ids": list(sample_ids),
        "verdicts": [judgement.verdict for judgement in judgements],
        "causes": [judgement.cause for judgement in judgements],
        "answers": [None if answer is None else storable(answer) for answer in answers],
        "details": [_kept_detail(judgement.detail) for judgement in judgements],
    }


def _kept_detail(detail: str | None) -> str | None:
    return None if detail is None else storable(detail[:LONGEST_DETAIL])


def load_known_verdicts(
    connection: Connection, version: str, keys: Sequence[bytes]
) -> dict[bytes, CheckResult]:
    """Return the earlier findings of this version of the verifier, by the key of the pair."""
    if not keys:
        return {}
    rows = connection.execute(
        text("""
            SELECT pair_key, cause, cause_detail FROM known_verdicts
            WHERE verifier_version = :version AND pair_key = ANY (CAST(:keys AS bytea[]))
        """),
        {"version": version, "keys": list(keys)},
    )
    return {row.pair_key: CheckResult(Cause(row.cause), row.cause_detail) for row in rows}


def remember_verdicts(connection: Connection, version: str, results: Mapping[bytes, CheckResult]) -> None:
    """Keep the lasting causes that this version of the verifier found; existing ones stay.

    Call it at most once in a transaction: keys in order save concurrent transactions from deadlocks.
    """
    lasting = [(key, results[key]) for key in sorted(results) if results[key].cause in LASTING_CAUSES]
    connection.execute(
        text("""
            INSERT INTO known_verdicts (verifier_version, pair_key, cause, cause_detail)
            SELECT :version, pair_key, cause, cause_detail
            FROM unnest(CAST(:keys AS bytea[]), CAST(:causes AS text[]), CAST(:details AS text[]))
                AS input (pair_key, cause, cause_detail)
            ON CONFLICT DO NOTHING
        """),
        {
            "version": version,
            "keys": [key for key, _ in lasting],
            "causes": [result.cause for _, result in lasting],
            "details": [_kept_detail(result.detail) for _, result in lasting],
        },
    )


def note_import(connection: Connection, round_id: int, file: str, digest: str) -> None:
    """Record the file whose samples an iteration begins with, and what names its content."""
    connection.execute(
        text("UPDATE iterations SET imported = :file, import_digest = :digest WHERE round_id = :id"),
        {"id": round_id, "file": file, "digest": digest},
    )


def find_import(connection: Connection, run_id: int, digest: str) -> tuple[int, str] | None:
    """Return number and file of an iteration of a run that began with these samples; a shared one counts."""
    row = connection.execute(
        text("""
            SELECT number, imported FROM iterations JOIN rounds ON rounds.id = round_id
            WHERE rounds.id IN (SELECT rounds_of(:run_id)) AND import_digest = :digest
        """),
        {"run_id": run_id, "digest": digest},
    ).first()
    return None if row is None else (row.number, row.imported)
