"""Fuzz the verifier with Atheris: `python -m tests.fuzz.fuzz_verifier -max_total_time=600`.

Extraction and comparison of texts run in this process, and their coverage guides the search. The checking
processes get a sample of each batch. A failure prints the request and ends the run. A sample whose pairs all
reach their deadline takes minutes; libFuzzer's `-timeout` has to be longer.
"""

import sys

import atheris

with atheris.instrument_imports(include=["hsstar.domain.answers", "hsstar.verifier"]):
    from hsstar.verifier import MathVerifier
    from hsstar.verifier.contract import VerificationRequest
    from tests.fuzz.answer_grammar import drawn_request
    from tests.fuzz.verifier_checks import check_preparation, check_verdicts

BATCH = 2_000
SAMPLED = 20
"""The number of requests in each batch that the checking processes get."""


class Fuzzer:
    """Check one request per input, and a sample of each batch with algebra."""

    def __init__(self, verifier: MathVerifier) -> None:
        self._verifier = verifier
        self._batch: list[VerificationRequest] = []
        self._checked = 0

    def __call__(self, data: bytes) -> None:
        source = atheris.FuzzedDataProvider(data)
        request = drawn_request(
            lambda number: int(source.ConsumeIntInRange(0, number - 1)),
            lambda length: str(source.ConsumeUnicode(length)),
        )
        check_preparation(self._verifier, request)
        self._batch.append(request)
        if len(self._batch) == BATCH:
            requests, self._batch = self._batch[:: BATCH // SAMPLED], []
            check_verdicts(self._verifier, requests)
            self._checked += len(requests)
            print(f"{self._checked} requests checked with algebra", file=sys.stderr)


def main() -> None:
    """Fuzz until a failure or the limits of libFuzzer's options."""
    with MathVerifier(processes=2, deadline_seconds=1.0) as verifier:
        verifier.verify([VerificationRequest("x+1", "1+x", is_answer=True)])
        atheris.Setup(sys.argv, Fuzzer(verifier))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
