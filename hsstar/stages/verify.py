"""Verification: every sample of a job gets its verdict and the cause of it."""

from hsstar.engines.contracts import VerificationRequest
from hsstar.stages.context import Workshop, computing
from hsstar.store import jobs, samples


def run(workshop: Workshop, job: jobs.Job) -> list[int]:
    """Verifies what is unverified of a job; returns the ids of its problems."""
    with workshop.database.begin() as connection:
        found = samples.load_unverified(connection, job)
    requests = [
        VerificationRequest(sample.response, sample.reference_answer, sample.truncated) for sample in found
    ]
    verifier = workshop.engines.verifier()
    with computing():
        judgements = verifier.verify(requests)
    with workshop.database.begin() as connection:
        samples.write_verdicts(connection, [sample.id for sample in found], judgements)
        jobs.complete(connection, job)
    return sorted({sample.problem_id for sample in found})
