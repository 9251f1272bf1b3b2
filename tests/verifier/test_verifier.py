"""The verifier gives right verdicts and causes for all responses, also when processes die."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.judging import judge_quickly

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ENDLESS = r"\sum_{n=1}^{10^9} n^n"
"""An answer that takes longer than every deadline."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=1, deadline_seconds=1.0) as verifier:
        yield verifier


def boxed(answer: str, reference: str = "7") -> VerificationRequest:
    return VerificationRequest(f"So the answer is $\\boxed{{{answer}}}$.", reference)


def algebraic(number: int) -> VerificationRequest:
    """Request a correct answer that needs algebra, another one for each number."""
    return boxed(f"x+{number}", f"{number}+x")


def cause_of(verifier: MathVerifier, answer: str, reference: str) -> Cause:
    [judgement] = verifier.verify([boxed(answer, reference)])
    return judgement.cause


def checking_processes(parent: int | None = None) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process(parent).children()
        if process.status() != psutil.STATUS_ZOMBIE
        and "hsstar.verifier.process" in " ".join(process.cmdline())
    ]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (VerificationRequest("I do not know.", "7"), Cause.NO_ANSWER),
        (VerificationRequest(r"\boxed{1", "1", truncated=True), Cause.NO_ANSWER),
        (VerificationRequest("it may be 7", "7", truncated=True), Cause.NO_ANSWER),
        (boxed("???"), Cause.UNPARSABLE),
        (boxed("1+"), Cause.UNPARSABLE),
        (boxed("7", "???"), Cause.BAD_REFERENCE),
        (boxed("7", ""), Cause.BAD_REFERENCE),
        (boxed("7", "8" * 10_001), Cause.BAD_REFERENCE),
    ],
)
def test_every_other_judgement_has_its_cause(
    verifier: MathVerifier, request_: VerificationRequest, cause: Cause
) -> None:
    assert verifier.verify([request_])[0].cause is cause


def test_the_judgement_shows_the_answer_as_it_was_written(verifier: MathVerifier) -> None:
    judgements = verifier.verify([boxed(r"\dfrac{1}{2}", "0.5"), VerificationRequest("none", "1")])
    assert [judgement.answer for judgement in judgements] == [r"\dfrac{1}{2}", None]


def test_verdicts_on_real_responses_agree_with_their_labels(verifier: MathVerifier) -> None:
    path = SHARED / "responses" / "math_sampled_8.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    labelled = [(row["answer"], item) for row in rows for item in row["responses"]]
    judgements = verifier.verify([VerificationRequest(item["response"], answer) for answer, item in labelled])
    agreeing = [
        (judgement.cause is Cause.CORRECT) == item["correct"]
        for judgement, (_, item) in zip(judgements, labelled, strict=True)
    ]
    assert len(agreeing) == 400
    assert sum(agreeing) >= 399


def test_a_slow_pair_times_out_alone_and_does_not_hold_the_others_back() -> None:
    with MathVerifier(processes=2, deadline_seconds=2.0) as verifier:
        verifier.verify([algebraic(0)])
        start = time.monotonic()
        judgements = verifier.verify([boxed(ENDLESS), *map(algebraic, range(50)), boxed(ENDLESS)])
        seconds = time.monotonic() - start
    causes = [judgement.cause for judgement in judgements]
    assert causes == [Cause.TIMED_OUT, *[Cause.CORRECT] * 50, Cause.TIMED_OUT]
    assert all(judgements[index].verdict is None for index in (0, -1))
    assert seconds < 12.0


def test_equal_pairs_are_graded_once(verifier: MathVerifier) -> None:
    start = time.monotonic()
    judgements = verifier.verify([boxed(ENDLESS)] * 20)
    assert {judgement.cause for judgement in judgements} == {Cause.TIMED_OUT}
    assert time.monotonic() - start < 10.0


def test_a_process_killed_in_mid_work_costs_only_the_response_it_was_at() -> None:
    others = set(checking_processes())
    with MathVerifier(processes=1, deadline_seconds=30.0) as verifier:
        verifier.verify([algebraic(0)])
        [first] = set(checking_processes()) - others
        before = sum(first.cpu_times()[:2])

        def kill_when_busy() -> None:
            wait_for(lambda: sum(first.cpu_times()[:2]) > before + 0.3)
            first.kill()

        killer = threading.Thread(target=kill_when_busy)
        killer.start()
        judgements = verifier.verify([algebraic(1), boxed(ENDLESS), algebraic(2), algebraic(3)])
        killer.join()
        assert [judgement.cause for judgement in judgements] == [
            Cause.CORRECT,
            Cause.CRASHED,
            Cause.CORRECT,
            Cause.CORRECT,
        ]
        assert len(set(checking_processes()) - others) == 1


def test_a_process_that_dies_between_calls_costs_nothing() -> None:
    before = set(checking_processes())
    with MathVerifier() as verifier:
        for number in range(5):
            assert verifier.verify([algebraic(number)])[0].cause is Cause.CORRECT
            for process in set(checking_processes()) - before:
                process.kill()
            time.sleep(0.004 * number)


def test_memory_is_limited() -> None:
    others = set(checking_processes())
    with MathVerifier(deadline_seconds=2.0, memory_limit_mb=256) as verifier:
        judgements = verifier.verify([boxed("10^{10^{9}}", "8x"), algebraic(1)])
        assert judgements[0].cause is not Cause.CORRECT
        assert judgements[1].cause is Cause.CORRECT
        [process] = set(checking_processes()) - others
        assert process.rlimit(psutil.RLIMIT_AS) == (256 << 20, 256 << 20)


def test_threads_may_share_a_verifier(verifier: MathVerifier) -> None:
    causes: dict[int, list[Cause]] = {}

    def verify(start: int) -> None:
        judgements = verifier.verify([algebraic(number) for number in range(start, start + 20)])
        causes[start] = [judgement.cause for judgement in judgements]

    threads = [threading.Thread(target=verify, args=(start,)) for start in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert causes == {start: [Cause.CORRECT] * 20 for start in (100, 200, 300)}


def test_text_alone_starts_no_process() -> None:
    before = checking_processes()
    with MathVerifier() as verifier:
        verifier.verify([boxed("7"), boxed("8"), boxed("x + 1", "x+1"), VerificationRequest("none", "7")])
        assert verifier.check_references(["7", "1,234.5"]) == [True, True]
        assert checking_processes() == before


def test_references_are_checked_before_anything_is_drawn(verifier: MathVerifier) -> None:
    references = ["7", "???", "", r"\frac{1}{2}", "x+1", "???", "__import__('os')", "9" * 10_001]
    assert verifier.check_references(references) == [True, False, False, True, True, False, False, False]


def test_a_reference_that_misses_its_deadline_is_looked_at_once_more() -> None:
    long = "+".join(rf"\frac{{x^{{{k}}}}}{{{k}+\sqrt{{2}}}}" for k in range(90))  # takes 0.3 s to read
    references = [long, r"\frac{\sqrt{3}}{", "+".join([long, "1"])]
    with MathVerifier(processes=1, deadline_seconds=0.002) as hasty:
        assert hasty.check_references(references, second_look_seconds=0) == [False, False, False]
        assert hasty.check_references(references) == [True, False, True]


def test_the_clock_of_a_task_does_not_run_while_its_process_is_kept_from_reading_it() -> None:
    before = checking_processes()
    with MathVerifier(processes=1, deadline_seconds=0.5) as verifier:
        verifier.verify([algebraic(1)])
        [process] = set(checking_processes()) - set(before)
        process.suspend()
        threading.Timer(1.0, process.resume).start()
        [judgement] = verifier.verify([algebraic(2)])
        assert judgement.cause is Cause.CORRECT
        assert process in checking_processes()


def test_closing_leaves_no_process_and_refuses_more_work() -> None:
    before = checking_processes()
    verifier = MathVerifier(processes=2)
    verifier.verify([algebraic(1), algebraic(2)])
    assert len(checking_processes()) == len(before) + 2
    verifier.close()
    verifier.close()
    assert checking_processes() == before
    with pytest.raises(EngineError, match="closed"):
        verifier.verify([algebraic(3)])


def test_closing_ends_a_verification_under_way() -> None:
    verifier = MathVerifier(deadline_seconds=60.0)
    failures: list[EngineError] = []

    def verify() -> None:
        try:
            verifier.verify([boxed(ENDLESS)])
        except EngineError as error:
            failures.append(error)

    thread = threading.Thread(target=verify)
    thread.start()
    time.sleep(0.5)
    verifier.close()
    thread.join(timeout=10.0)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_the_processes_die_with_their_parent() -> None:
    script = (
        "from hsstar.verifier import MathVerifier\n"
        "from hsstar.verifier import VerificationRequest\n"
        f"MathVerifier(deadline_seconds=60).verify([VerificationRequest(r'\\boxed{{{ENDLESS}}}', '7')])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for(lambda: checking_processes(parent.pid))
        children = checking_processes(parent.pid)
        time.sleep(1.5)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(process.is_running() for process in children), seconds=5.0)


def test_a_process_that_cannot_start_is_an_error_and_not_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with MathVerifier() as verifier, pytest.raises(EngineError, match="does not start"):
        verifier.verify([algebraic(1)])


def test_a_memory_limit_that_the_libraries_exceed_is_refused() -> None:
    with pytest.raises(EngineError, match="256"):
        MathVerifier(memory_limit_mb=255)


def quick_cause(answer: str, reference: str) -> Cause | None:
    finding = judge_quickly(answer, reference)
    return finding.cause if finding else None


@given(st.integers(), st.integers())
def test_integers_are_decided_by_their_text(number: int, other: int) -> None:
    assert quick_cause(str(number), str(number)) is Cause.CORRECT
    assert quick_cause(f"{number:,}", f" ${number}.$ ") is Cause.CORRECT
    assert quick_cause(str(number), f"{number}.00") is Cause.CORRECT
    if number != other:
        assert quick_cause(str(number), str(other)) is Cause.INCORRECT
        assert quick_cause(f"{number:,}", str(other)) is Cause.INCORRECT


def test_the_version_names_parser_and_rules(verifier: MathVerifier) -> None:
    assert verifier.version.startswith("math-verify ")
    assert "/hsstar " in verifier.version
