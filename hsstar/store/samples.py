"""Samples, their responses, verdicts and rewards: what the jobs on samples read and write."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from hsstar.domain.text import storable
from hsstar.domain.verdict import LASTING_CAUSES, Cause, Judgement
from hsstar.store.queue.jobs import Job


@dataclass(frozen=True, slots=True)
class Slot:
    """The address of a sample within its round, with the problem to sample for."""

    problem_id: int
    problem_key: str
    statement: str
    slot: int


@dataclass(frozen=True, slots=True)
class DrawnSample:
    """A sample to be written; what an imported sample does not know is None."""

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
    """A sample that is to be verified or scored."""

    id: int
    problem_id: int
    statement: str
    reference_answer: str
    response: str
    truncated: bool


def load_missing_slots(connection: Connection, job: Job) -> list[Slot]:
    """The slots of a sampling job that are not drawn yet, problem by problem."""
    rows = connection.execute(
        text("""
            SELECT job_items.problem_id, problems.key, problems.statement, wanted.slot
            FROM job_items
            CROSS JOIN LATERAL unnest(job_items.slots) AS wanted (slot)
            JOIN problems ON problems.id = job_items.problem_id
            LEFT JOIN samples
                ON samples.round_id = :round_id
                AND samples.problem_id = job_items.problem_id
                AND samples.slot = wanted.slot
            WHERE job_items.job_id = :job_id AND samples.id IS NULL
            ORDER BY job_items.problem_id, wanted.slot
        """),
        {"job_id": job.id, "round_id": job.round_id},
    )
    return [Slot(*row) for row in rows]


def write_samples(
    connection: Connection, round_id: int, model_id: int | None, worker: str, drawn: Sequence[DrawnSample]
) -> int:
    """Writes samples with their responses; a slot that is taken keeps what it has.

    Returns how many were new.
    """
    result = connection.execute(
        text("""
            WITH
            given AS (
                SELECT * FROM unnest(
                    CAST(:problem_ids AS bigint[]), CAST(:slots AS int[]), CAST(:responses AS text[]),
                    CAST(:seeds AS bigint[]), CAST(:tokens AS int[]), CAST(:finish_reasons AS text[]),
                    CAST(:logprobs AS double precision[]), CAST(:engines AS text[]),
                    CAST(:milliseconds AS double precision[])
                ) AS given (
                    problem_id, slot, response, seed, tokens, finish_reason, cumulative_logprob, engine,
                    milliseconds
                )
            ),
            written AS (
                INSERT INTO samples (
                    round_id, model_id, worker, problem_id, slot, seed, tokens, finish_reason,
                    cumulative_logprob, engine, milliseconds
                )
                SELECT :round_id, CAST(:model_id AS bigint), :worker, problem_id, slot, seed, tokens,
                    finish_reason, cumulative_logprob, engine, milliseconds
                FROM given
                ON CONFLICT (round_id, problem_id, slot) DO NOTHING
                RETURNING id, problem_id, slot, tokens
            ),
            counted AS (
                UPDATE workers
                SET tokens_done = tokens_done + (SELECT coalesce(sum(tokens), 0) FROM written)
                WHERE name = :worker
            )
            INSERT INTO sample_responses (sample_id, response)
            SELECT written.id, given.response FROM written JOIN given USING (problem_id, slot)
        """),
        {
            "round_id": round_id,
            "model_id": model_id,
            "worker": worker,
            "problem_ids": [sample.problem_id for sample in drawn],
            "slots": [sample.slot for sample in drawn],
            "responses": [storable(sample.response) for sample in drawn],
            "seeds": [sample.seed for sample in drawn],
            "tokens": [sample.tokens for sample in drawn],
            "finish_reasons": [sample.finish_reason for sample in drawn],
            "logprobs": [sample.cumulative_logprob for sample in drawn],
            "engines": [sample.engine for sample in drawn],
            "milliseconds": [sample.milliseconds for sample in drawn],
        },
    )
    return result.rowcount


_JOB_SAMPLES = """
    SELECT samples.id, samples.problem_id, statement, reference_answer, response,
        coalesce(finish_reason = 'length', false)
    FROM job_items
    JOIN samples
        ON samples.round_id = :round_id
        AND samples.problem_id = job_items.problem_id
        AND samples.slot = ANY (job_items.slots)
    JOIN problems ON problems.id = samples.problem_id
    JOIN sample_responses ON sample_responses.sample_id = samples.id
    WHERE job_items.job_id = :job_id
"""
_UNVERIFIED = f"{_JOB_SAMPLES} AND cause IS NULL ORDER BY samples.id"
_UNSCORED = f"{_JOB_SAMPLES} AND min_reward IS NULL ORDER BY samples.id"


def load_unverified(connection: Connection, job: Job) -> list[StoredSample]:
    """The samples of a verification job that have no verdict yet."""
    return _stored(connection.execute(text(_UNVERIFIED), {"job_id": job.id, "round_id": job.round_id}))


def load_unscored(connection: Connection, job: Job) -> list[StoredSample]:
    """The samples of a scoring job that have no reward yet."""
    return _stored(connection.execute(text(_UNSCORED), {"job_id": job.id, "round_id": job.round_id}))


def _stored(rows: Iterable[Sequence[Any]]) -> list[StoredSample]:
    return [StoredSample(*row) for row in rows]


def write_verdicts(
    connection: Connection, sample_ids: Sequence[int], judgements: Sequence[Judgement]
) -> None:
    """Writes verdict, cause and extracted answer of samples that have none yet."""
    connection.execute(
        text("""
            UPDATE samples SET verdict = given.verdict, cause = given.cause, answer = given.answer
            FROM unnest(
                CAST(:ids AS bigint[]), CAST(:verdicts AS text[]), CAST(:causes AS text[]),
                CAST(:answers AS text[])
            ) AS given (id, verdict, cause, answer)
            WHERE samples.id = given.id AND samples.cause IS NULL
        """),
        {
            "ids": list(sample_ids),
            "verdicts": [judgement.verdict for judgement in judgements],
            "causes": [judgement.cause for judgement in judgements],
            "answers": [
                None if judgement.answer is None else storable(judgement.answer) for judgement in judgements
            ],
        },
    )


@dataclass(frozen=True, slots=True)
class SampleReward:
    """The step rewards of a sample and their minimum."""

    sample_id: int
    step_rewards: tuple[float, ...]
    minimum: float
    truncated: bool


def write_rewards(connection: Connection, reward_model_id: int, scored: Sequence[SampleReward]) -> None:
    """Writes step rewards, and their minimum on the sample's own row; what is there stays."""
    connection.execute(
        text("""
            WITH
            given AS (
                SELECT * FROM unnest(
                    CAST(:ids AS bigint[]), CAST(:rewards AS text[]), CAST(:minima AS double precision[]),
                    CAST(:truncated AS boolean[])
                ) AS given (sample_id, rewards, minimum, truncated)
            ),
            written AS (
                INSERT INTO rewards (sample_id, reward_model_id, step_rewards, truncated)
                SELECT sample_id, :reward_model_id, CAST(rewards AS double precision[]), truncated
                FROM given
                ON CONFLICT DO NOTHING
                RETURNING sample_id
            )
            UPDATE samples SET min_reward = given.minimum
            FROM written JOIN given USING (sample_id)
            WHERE samples.id = written.sample_id
        """),
        {
            "reward_model_id": reward_model_id,
            "ids": [reward.sample_id for reward in scored],
            # arrays of different lengths travel as Postgres array literals; repr of a float is exact
            "rewards": ["{" + ",".join(map(repr, reward.step_rewards)) + "}" for reward in scored],
            "minima": [reward.minimum for reward in scored],
            "truncated": [reward.truncated for reward in scored],
        },
    )


def load_known_verdicts(connection: Connection, version: str, keys: Sequence[bytes]) -> dict[bytes, Cause]:
    """What this version of the verifier has found before, by the key of the pair."""
    if not keys:
        return {}
    rows = connection.execute(
        text("""
            SELECT pair_key, cause FROM known_verdicts
            WHERE verifier_version = :version AND pair_key = ANY (CAST(:keys AS bytea[]))
        """),
        {"version": version, "keys": list(keys)},
    )
    return {row.pair_key: Cause(row.cause) for row in rows}


def remember_verdicts(connection: Connection, version: str, found: Mapping[bytes, Cause]) -> None:
    """Keeps what this version of the verifier has found, lasting causes only; what is there stays.

    At most once in a transaction: the order of the keys saves concurrent ones from deadlocks.
    """
    lasting = sorted((key, cause) for key, cause in found.items() if cause in LASTING_CAUSES)
    connection.execute(
        text("""
            INSERT INTO known_verdicts (verifier_version, pair_key, cause)
            SELECT :version, pair_key, cause
            FROM unnest(CAST(:keys AS bytea[]), CAST(:causes AS text[])) AS given (pair_key, cause)
            ON CONFLICT DO NOTHING
        """),
        {
            "version": version,
            "keys": [key for key, _ in lasting],
            "causes": [cause for _, cause in lasting],
        },
    )
