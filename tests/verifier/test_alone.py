"""The verifier without the rest of hsstar: what it imports, and `judge` for many callers at once."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause, CheckResult
from hsstar.verifier import (
    AnswerPair,
    MathVerifier,
    SharedVerifier,
    VerificationRequest,
    judge,
    judge_async,
    judge_batch,
)

ENDLESS = VerificationRequest(r"\sum_{n=1}^{10^9} n^n", "7", is_answer=True)
SEEN = """
import json, sys
import hsstar.verifier, hsstar.verifier.adapters.trl, hsstar.verifier.adapters.verl
import hsstar.verifier.adapters.verifiers, hsstar.verifier.requests
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)))
print(json.dumps(sorted(name for name in sys.modules if name.startswith("hsstar."))))
"""


def algebraic(number: int, reference: str | None = None) -> VerificationRequest:
    return VerificationRequest(f"x+{number}", reference or f"{number}+x", is_answer=True)


@pytest.fixture
def shared() -> Iterator[SharedVerifier]:
    with SharedVerifier(processes=2, deadline_seconds=120.0) as verifier:
        yield verifier


def test_the_verifier_imports_the_standard_library_and_the_domain_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True)
    packages, modules = map(json.loads, done.stdout.splitlines())
    installed = {name for name in packages if not name.startswith("_")}  # and what makes it editable
    assert installed == {"hsstar"}
    assert {module.split(".")[1] for module in modules} == {"domain", "verifier"}


def test_one_many_and_awaited_answers_get_the_same_verdicts() -> None:
    pairs = [(r"\frac{2}{4}", "0.5"), ("x+1", "1+x"), ("x+1", "x+2"), ("x+1", "???"), ("1+", "2")]
    causes = [Cause.CORRECT, Cause.CORRECT, Cause.INCORRECT, Cause.BAD_REFERENCE, Cause.UNPARSABLE]
    judged = [judge(*pair) for pair in pairs]

    async def judge_all() -> list[object]:
        return [*await asyncio.gather(*(judge_async(*pair) for pair in pairs))]

    assert [judgement.cause for judgement in judged] == causes
    assert [judgement.answer for judgement in judged] == [answer for answer, _ in pairs]
    assert judge_batch(VerificationRequest(*pair, is_answer=True) for pair in pairs) == judged
    assert asyncio.run(judge_all()) == judged


def test_a_whole_response_is_searched_for_its_answer() -> None:
    response = r"First $x=1$, so \boxed{x+2}"
    assert judge(response, "2+x", is_answer=False).cause is Cause.CORRECT
    assert judge(response, "2+x").cause is not Cause.CORRECT
    assert judge("It may be 7", "7", is_answer=False, truncated=True).cause is Cause.NO_ANSWER
    assert asyncio.run(judge_async("so 7", "7", is_answer=False)).cause is Cause.CORRECT


def test_a_slow_answer_holds_up_no_other(shared: SharedVerifier) -> None:
    slow = shared.submit(ENDLESS)
    others = [algebraic(n) for n in range(20)]
    assert {judgement.cause for judgement in shared.verify(others)} == {Cause.CORRECT}
    assert not slow.done()


def test_requests_of_many_threads_and_tasks_are_all_judged(shared: SharedVerifier) -> None:
    requests = [algebraic(n % 7, f"{n % 5}+x") for n in range(70)]
    expected = [Cause.CORRECT if n % 7 == n % 5 else Cause.INCORRECT for n in range(70)]
    with ThreadPoolExecutor(20) as threads:
        judged = [judgement.cause for [judgement] in threads.map(shared.verify, [[one] for one in requests])]
    assert judged == expected


@pytest.mark.slow
def test_equal_pairs_that_wait_together_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str | None] = []
    decide = MathVerifier.decide

    def counted(self: MathVerifier, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        computed.extend(pair.answer for pair in pairs)
        return decide(self, pairs)

    monkeypatch.setattr(MathVerifier, "decide", counted)
    with SharedVerifier(processes=1, deadline_seconds=0.5) as verifier:
        slow = verifier.submit(ENDLESS)
        judged = verifier.verify(
            [algebraic(1), algebraic(2), algebraic(1), algebraic(1, "1 + x"), algebraic(1)]
        )
        assert slow.result().cause is Cause.TIMED_OUT
        assert {judgement.cause for judgement in judged} == {Cause.CORRECT}
        assert computed == [ENDLESS.response, "x+1", "x+2"]
        assert verifier.verify([algebraic(1)])[0].cause is Cause.CORRECT  # nothing is left of the first time
        assert computed[3:] == ["x+1"]


@pytest.mark.slow
def test_who_waits_no_longer_takes_the_verdict_from_nobody(shared: SharedVerifier) -> None:
    async def leave_and_stay() -> object:
        leaving, staying = (
            asyncio.ensure_future(asyncio.wrap_future(shared.submit(algebraic(3)))) for _ in range(2)
        )
        leaving.cancel()
        return (await staying).cause

    assert asyncio.run(leave_and_stay()) is Cause.CORRECT


def test_who_waits_at_the_end_gets_an_error() -> None:
    with SharedVerifier(processes=1, deadline_seconds=120.0) as verifier:
        waiting = [verifier.submit(ENDLESS), verifier.submit(algebraic(1))]
    for future in waiting:
        with pytest.raises(EngineError, match="closed"):
            future.result(timeout=30)
    with pytest.raises(EngineError, match="closed"):
        verifier.verify([algebraic(1)])


def test_a_forked_process_has_checking_processes_of_its_own() -> None:
    assert judge("x+1", "1+x").cause is Cause.CORRECT
    child = os.fork()
    if child == 0:
        os._exit(0 if judge("x+2", "2+x").cause is Cause.CORRECT else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert judge("x+3", "3+x").cause is Cause.CORRECT
