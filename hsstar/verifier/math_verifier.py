"""`MathVerifier`: answers and texts are judged in this process, algebra runs in checking processes."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

from hsstar.domain.answers import GUESSED, extract_answer
from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause, CheckResult, Judgement
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.forms import is_readable
from hsstar.verifier.judging import Decision, formulas, judge_quickly
from hsstar.verifier.pool import Failure, Outcome
from hsstar.verifier.pool_processes import PoolOptions, Task
from hsstar.verifier.pool_thread import PoolThread
from hsstar.verifier.reading import read
from hsstar.verifier.references import ReferenceKind, kind_without_algebra
from hsstar.verifier.spelling import LONGEST_ANSWER, parsable_source

RULES_VERSION = 10
"""Raised whenever a response may get another verdict than before."""

SMALLEST_MEMORY_LIMIT_MB = 256
_SECOND_LOOK = 2.0  # times the deadline

_CAUSE_OF_FAILURE = {Failure.TIMED_OUT: Cause.TIMED_OUT, Failure.CRASHED: Cause.CRASHED}


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a verdict came about; `extraction` and `rule` name the rules that found and judged the answer."""

    extraction: str
    answer: str
    answer_form: str
    reference_form: str
    rule: str
    cause: Cause


class MathVerifier:
    """Decide whether final answers are equivalent to their references (contract `Verifier`).

    This process extracts the final answer and judges it if the texts are enough. Checking processes judge the
    rest, equal pairs once; they start when needed and end with `close` or this process. A pair past its
    deadline gets a second look, twice as long, after all others; past that, it ends as `timed_out`. One whose
    process dies ends as `crashed`. Neither affects another. Threads take turns.

    By default there is one process per core, at least two, so that a slow pair does not hold up the others.
    `deadline_seconds` is the processor time for one pair, whatever the load of the machine; `memory_limit_mb`
    is the address space of one process in MiB. Raise EngineError if it is below 256, or too low to load the
    libraries.
    """

    compares_answers = True

    def __init__(
        self, processes: int | None = None, deadline_seconds: float = 3.0, memory_limit_mb: int = 1024
    ) -> None:
        if memory_limit_mb < SMALLEST_MEMORY_LIMIT_MB:
            raise EngineError(
                f"the memory limit of the verifier has to be at least {SMALLEST_MEMORY_LIMIT_MB} MiB"
            )
        self.version = f"math-verify {version('math-verify')}/hsstar {RULES_VERSION}"
        self._second_look_seconds = _SECOND_LOOK * deadline_seconds
        self._pool = PoolThread(
            PoolOptions(
                "hsstar.verifier.algebra_task",
                {},
                "Math-Verify",
                processes or max(2, os.cpu_count() or 1),
                deadline_seconds,
                memory_limit_mb,
            )
        )

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """Say of each request, in order, what kind its reference is. Raises as `decide` does."""
        return self.examine_references([request.reference for request in requests])

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Extract the answers and decide what needs no algebra; return one pair per request, in order."""
        return [_pair(request) for request in requests]

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Decide open pairs, each different key once; raise EngineError if no process starts."""
        different = list({pair.key: pair for pair in pairs}.values())
        tasks: list[Task] = [{"answer": pair.answer or "", "reference": pair.reference} for pair in different]
        for index, outcome in self._run(tasks):
            yield different[index].key, CheckResult(_decision(outcome).cause)

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """Return one judgement per request, in order. Raises as `decide` does."""
        pairs = self.prepare(requests)
        decided = dict(self.decide([pair for pair in pairs if pair.cause is None]))
        return [Judgement(pair.cause or decided[pair.key].cause, pair.answer) for pair in pairs]

    def check_references(self, references: Sequence[str], second_look_seconds: float = 30.0) -> list[bool]:
        """Say of each reference answer, in order, whether it can be read as mathematics.

        A reference that is not read by its deadline gets a second look of `second_look_seconds` (0: none):
        more than an answer, because it decides which problems are used. Raises as `decide` does.
        """
        readable = {text for text in references if len(text) <= LONGEST_ANSWER and is_readable(read(text))}
        readable -= self._unreadable_formulas(readable, second_look_seconds)
        return [text in readable for text in references]

    def examine_references(
        self, references: Sequence[str], second_look_seconds: float = 30.0
    ) -> list[ReferenceKind]:
        """Say of each reference answer, in order, what kind it is; time and errors as `check_references`.

        `close` in another thread ends it, as it ends a verification.
        """
        kinds = {text: kind_without_algebra(text) for text in self._while_open(dict.fromkeys(references))}
        usable = [text for text, kind in kinds.items() if kind.is_usable]
        unreadable = self._unreadable_formulas(usable, second_look_seconds)
        return [ReferenceKind.UNREADABLE if text in unreadable else kinds[text] for text in references]

    def _while_open(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            if self._pool.is_closed:
                raise EngineError("the verifier is closed")
            yield text

    def _unreadable_formulas(self, references: Iterable[str], second_look_seconds: float) -> set[str]:
        """Return the references with a formula that algebra cannot read."""
        found = ((text, [formula.source for formula in formulas(read(text))]) for text in references)
        doubtful = [(text, sources) for text, sources in found if sources]
        outcomes = self._run([{"formulas": sources} for _, sources in doubtful], second_look_seconds)
        return {doubtful[index][0] for index, outcome in outcomes if outcome != Cause.CORRECT}

    def explain(self, answer: str, reference: str) -> Explanation:
        """Say how an answer is judged; extract it first from a whole response. Raises as `decide` does."""
        extracted = extract_answer(answer)
        if extracted is None or extracted.rule in GUESSED:
            extraction, final = "as given", answer.strip()
        else:
            extraction, final = extracted.rule.value, extracted.text
        decision = judge_quickly(final, reference)
        if decision is None:
            [(_, outcome)] = self._run([{"answer": final, "reference": reference}])
            decision = _decision(outcome)
        return Explanation(
            extraction, final, str(read(final)), str(read(reference)), decision.rule, decision.cause
        )

    def close(self) -> None:
        """End the checking processes; a verification in another thread ends with an error."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(
        self, tasks: Sequence[Task], second_look_seconds: float | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        seconds = self._second_look_seconds if second_look_seconds is None else second_look_seconds
        return self._pool.run(tasks, seconds)


def _pair(request: VerificationRequest) -> AnswerPair:
    answer = _final_answer(request)
    key = _key(answer, request.reference)
    if answer is None:
        return AnswerPair(None, request.reference, Cause.NO_ANSWER, key)
    decision = judge_quickly(answer, request.reference)
    return AnswerPair(answer, request.reference, decision.cause if decision else None, key)


def _final_answer(request: VerificationRequest) -> str | None:
    """Return the final answer, and no more of it than shows that it is too long."""
    if request.is_answer:
        return request.response[: LONGEST_ANSWER + 1]
    extracted = extract_answer(request.response, request.truncated)
    return None if extracted is None else extracted.text[: LONGEST_ANSWER + 1]


def _key(answer: str | None, reference: str) -> bytes:
    mine, theirs = "none" if answer is None else _reading(answer), _reading(reference)
    pair = f"{len(mine)} {mine}{theirs}"
    return hashlib.blake2b(pair.encode(errors="surrogatepass"), digest_size=16).digest()


def _reading(text: str) -> str:
    """Return what alone decides how a text is read: its spelling, or the text itself if it is not read."""
    source = parsable_source(text)
    return f"unread {text}" if source is None else f"read {source}"


def _decision(outcome: Outcome) -> Decision:
    if isinstance(outcome, Failure):
        return Decision(_CAUSE_OF_FAILURE[outcome], f"the comparison {outcome.value}")
    cause, _, rule = outcome.partition(" ")
    return Decision(Cause(cause), rule)
