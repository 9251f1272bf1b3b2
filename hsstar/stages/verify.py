"""Verification: judge every sample of a job and record the cause of the verdict.

Batches are written under the job's lease as they are found; the next attempt continues behind the last one.
In the end the job votes on those problems of an evaluation that are complete (maj@k).
"""

import logging
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial

from sqlalchemy import Connection

from hsstar.domain.answers.thinking import reply_of
from hsstar.domain.verdict import CheckResult, Judgement
from hsstar.stages.batching import in_batches
from hsstar.stages.context import WorkerContext, computing, load_context
from hsstar.stages.vote import vote
from hsstar.store import datasets, samples, votes
from hsstar.store.queue import jobs
from hsstar.store.samples import load_known_verdicts, remember_verdicts
from hsstar.verifier.contract import AnswerPair, VerificationRequest, Verifier

log = logging.getLogger("hsstar.verify")

_BATCH_PAIRS = 64
_BATCH_SECONDS = 1.0

Compared = tuple[int, AnswerPair]
"""A sample's id and its pair."""


def run(worker: WorkerContext, job: jobs.Job) -> list[int]:
    """Verify the unverified samples of a job; return the ids of its problems."""
    database = worker.database
    with worker.span("load"), database.begin() as connection:
        context = load_context(connection, job)
        dataset = datasets.name_of_round(connection, job.round_id)
        problem_ids = jobs.problem_ids(connection, job)
        pending = samples.load_unverified(connection, job)
    with computing():
        verifier = worker.engines.verifier(context.recipe.verification.of_dataset(dataset))
    requests = [_request(sample, context.recipe.policy.thinking) for sample in pending]
    with worker.span("read answers", samples=len(requests)), computing():
        pairs = verifier.prepare(requests)
    judged: dict[int, Judgement] = {}
    open_pairs: defaultdict[bytes, list[Compared]] = defaultdict(list)
    for sample, pair in zip(pending, pairs, strict=True):
        if pair.cause is None:
            open_pairs[pair.key].append((sample.id, pair))
        else:
            judged[sample.id] = Judgement(pair.cause, pair.answer, pair.detail)
    with worker.span("write known verdicts"), database.begin() as connection:
        known = load_known_verdicts(connection, verifier.version, list(open_pairs))
        _write(connection, job, verifier.version, judged | _judgements(open_pairs, known))
    unknown = [compared[0][1] for key, compared in open_pairs.items() if key not in known]
    log.info(
        "job %d: %d samples, %d pairs left to decide, %d of them known",
        job.id,
        len(pending),
        len(open_pairs),
        len(known),
    )
    with (
        worker.span("compare answers", pairs=len(unknown)),
        closing(in_batches(_decided(verifier, unknown), _BATCH_PAIRS, _BATCH_SECONDS)) as batches,
    ):
        for batch in batches:
            found = dict(batch)
            judged = _judgements(open_pairs, found)
            with worker.span("write", samples=len(judged)):
                database.run(partial(_write_batch, job, verifier.version, judged, found))
            worker.progress.moved(job.id)
    with worker.span("vote"):
        with database.begin() as connection:
            ballots = votes.load_ballots(connection, job)
        with computing():
            majorities = vote(ballots, verifier)

    def complete(connection: Connection) -> None:
        votes.write_votes(connection, job.round_id, ballots, majorities)
        jobs.complete(connection, job)

    with worker.span("finish"):
        database.run(complete)
    return problem_ids


def _request(sample: samples.StoredSample, thinking: str) -> VerificationRequest:
    return VerificationRequest(
        reply_of(sample.response, thinking),
        sample.reference_answer,
        sample.truncated,
        problem=sample.statement,
        source_id=sample.source_id,
    )


def _decided(verifier: Verifier, pairs: Sequence[AnswerPair]) -> Generator[tuple[bytes, CheckResult]]:
    with computing():
        yield from verifier.decide(pairs)


def _judgements(
    open_pairs: Mapping[bytes, Sequence[Compared]], found: Mapping[bytes, CheckResult]
) -> dict[int, Judgement]:
    return {
        sample_id: Judgement(result.cause, pair.answer, result.detail)
        for key, result in found.items()
        for sample_id, pair in open_pairs[key]
    }


def _write_batch(
    job: jobs.Job,
    verifier_version: str,
    judgements: Mapping[int, Judgement],
    found: Mapping[bytes, CheckResult],
    connection: Connection,
) -> None:
    _write(connection, job, verifier_version, judgements)
    remember_verdicts(connection, verifier_version, found)


def _write(
    connection: Connection, job: jobs.Job, verifier_version: str, judgements: Mapping[int, Judgement]
) -> None:
    jobs.fence(connection, job)
    sample_ids = sorted(judgements)  # every writer locks these rows in the same order
    found = [judgements[sample_id] for sample_id in sample_ids]
    samples.write_verdicts(connection, job.worker, verifier_version, sample_ids, found)
