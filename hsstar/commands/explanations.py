"""Say how the verdict on a stored sample comes about, by the verifier of today."""

from dataclasses import asdict

from hsstar.domain.answers.thinking import reply_of
from hsstar.store import datasets, runs
from hsstar.store.database import Database
from hsstar.store.read.samples import Sample
from hsstar.verifier import MathVerifier, VerificationRequest
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers

Explanation = dict[str, str]
"""What the verifier found, by names such as `answer` and `rule`; `cause` is always among them."""


def explain(database: Database, verifiers: OpenVerifiers, sample: Sample) -> Explanation:
    """Verify a sample by the kind that the recipe of its run says; nothing is stored."""
    with database.begin() as connection:
        recipe = runs.find_run(connection, sample.run).recipe
        dataset = datasets.name_of_round(connection, sample.round_id)
    verifier = verifiers.get(recipe.verification.of_dataset(dataset))
    response = reply_of(sample.response or "", sample.thinking) or sample.answer or ""
    if isinstance(verifier, MathVerifier):
        return {
            name: str(value) for name, value in asdict(verifier.explain(response, sample.reference)).items()
        }
    request = VerificationRequest(
        response,
        sample.reference,
        truncated=sample.finish_reason == "length",
        problem=sample.statement,
        source_id=sample.source_id,
    )
    [judgement] = verifier.verify([request])
    parts = {"answer": judgement.answer, "detail": judgement.detail, "cause": judgement.cause}
    return {"verifier": verifier.version} | {
        name: str(value) for name, value in parts.items() if value is not None
    }
