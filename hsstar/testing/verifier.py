"""What every verifier promises (`hsstar.verifier.contract.Verifier`)."""

from collections.abc import Sequence

from hsstar.domain.verdict import Cause, Judgement
from hsstar.testing.promises import HOSTILE_TEXTS, demand
from hsstar.verifier.contract import VerificationRequest, Verifier


def check_verifier(
    verifier: Verifier, right: Sequence[VerificationRequest], wrong: Sequence[VerificationRequest]
) -> None:
    """Judge responses in several batches; raise BrokenPromiseError where the verifier breaks a promise.

    `right` are requests with a correct response, `wrong` those with another; each at least one. Hostile
    responses are judged too, with the references of `right`. The verifier stays open.
    """
    requests = [*right, *wrong]
    together = _verify(verifier, requests)
    for request, judgement in zip(requests, together, strict=True):
        expected = request in right
        demand(
            (judgement.cause == Cause.CORRECT) == expected,
            f"the response {request.response[:60]!r} is {'correct' if expected else 'not correct'}",
            judgement,
        )
    backwards = _verify(verifier, requests[::-1])[::-1]
    demand(_causes(backwards) == _causes(together), "the order of the requests changes no verdict")
    alone = [_verify(verifier, [request])[0] for request in requests]
    demand(_causes(alone) == _causes(together), "the other requests of a batch change no verdict")
    _check_pairs(verifier, requests, together)
    examined = verifier.examine(requests)
    demand(len(examined) == len(requests), "there is one kind of reference per request", len(examined))
    usable = all(kind.is_usable for kind in examined[: len(right)])
    demand(usable, "the references of correct responses are usable", examined)
    hostile = [VerificationRequest(text, right[0].reference) for text in HOSTILE_TEXTS]
    after = _verify(verifier, [*hostile, *right])[len(hostile) :]
    demand(_causes(after) == _causes(together)[: len(right)], "hostile responses change no other verdict")
    demand(_verify(verifier, []) == [], "no request gives no judgement")
    demand(bool(verifier.version.strip()), "the version says which verdicts are the same")


def _check_pairs(
    verifier: Verifier, requests: Sequence[VerificationRequest], together: Sequence[Judgement]
) -> None:
    pairs = verifier.prepare(requests)
    demand(len(pairs) == len(requests), "there is one pair per request", len(pairs))
    decided = list(verifier.decide([pair for pair in pairs if pair.cause is None]))
    causes = dict(decided)
    demand(len(causes) == len(decided), "each different key is decided once")
    for pair, judgement in zip(pairs, together, strict=True):
        demand(len(pair.key) == 16, "a key has 16 bytes", pair)
        result = causes.get(pair.key)
        cause = pair.cause or (result and result.cause)
        demand(
            cause == judgement.cause, "`prepare` with `decide` finds what `verify` finds", (pair, judgement)
        )


def _verify(verifier: Verifier, requests: Sequence[VerificationRequest]) -> list[Judgement]:
    judgements = verifier.verify(requests)
    demand(len(judgements) == len(requests), "there is one judgement per request", len(judgements))
    for judgement in judgements:
        demand(isinstance(judgement.cause, Cause), "a judgement has a cause", judgement)
    return judgements


def _causes(judgements: Sequence[Judgement]) -> list[Cause]:
    return [judgement.cause for judgement in judgements]
