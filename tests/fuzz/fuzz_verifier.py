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
    from tests.fuzz.answer_grammar import damaged, written_answer
    from tests.fuzz.verifier_checks import check_preparation, check_verdicts

BATCH = 2_000
SAMPLED = 20
"""The number of requests in each batch that the checking processes get."""
LONGEST_TEXT = 2_000
FRAMES = ["{}", r"\boxed{{{}}}", r"so \boxed{{{}}}.", "answer is {}.", "Answer: ${}$", "#### {}", r"\({}\)"]


class Fuzzer:
    """Check one request per input, and a sample of each batch with algebra."""

    def __init__(self, verifier: MathVerifier) -> None:
        self._verifier = verifier
        self._batch: list[VerificationRequest] = []
        self._checked = 0

    def __call__(self, data: bytes) -> None:
        request = _request(atheris.FuzzedDataProvider(data))
        check_preparation(self._verifier, request)
        self._batch.append(request)
        if len(self._batch) == BATCH:
            requests, self._batch = self._batch[:: BATCH // SAMPLED], []
            check_verdicts(self._verifier, requests)
            self._checked += len(requests)
            print(f"{self._checked} requests checked with algebra", file=sys.stderr)


def _request(source: atheris.FuzzedDataProvider) -> VerificationRequest:
    answer = _text(source)
    reference = answer if source.ConsumeIntInRange(0, 3) == 0 else _text(source)
    is_answer = source.ConsumeBool()
    frame = "{}" if is_answer else FRAMES[source.ConsumeIntInRange(0, len(FRAMES) - 1)]
    return VerificationRequest(frame.format(answer), reference, source.ConsumeBool(), is_answer)


def _text(source: atheris.FuzzedDataProvider) -> str:
    """Return an answer by the grammar, a damaged one, or any text."""

    def choose(number: int) -> int:
        return int(source.ConsumeIntInRange(0, number - 1))

    kind = choose(8)
    if kind == 0:
        return str(source.ConsumeUnicode(LONGEST_TEXT))
    text = written_answer(choose)
    for _ in range(choose(4) if kind < 4 else 0):
        text = damaged(text, choose, source.ConsumeUnicode(8))
    return text[:LONGEST_TEXT]


def main() -> None:
    """Fuzz until a failure or the limits of libFuzzer's options."""
    with MathVerifier(processes=2, deadline_seconds=1.0) as verifier:
        verifier.verify([VerificationRequest("x+1", "1+x", is_answer=True)])
        atheris.Setup(sys.argv, Fuzzer(verifier))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
