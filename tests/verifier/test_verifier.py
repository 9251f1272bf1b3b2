"""The verifier gives right verdicts and causes for all responses, also when processes die."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import EngineError
from hsstar.domain.verdict import Cause, Judgement
from hsstar.verifier import RULES_VERSION, Explanation, MathVerifier
from hsstar.verifier.contract import VerificationRequest
from tests.verifier.processes import checking_processes, living_children, warm_processes
from tests.waiting import wait_for

RESPONSES = Path(__file__).parents[2].parent / "shared" / "data" / "responses" / "math_sampled_8.jsonl"
ENDLESS = r"\sum_{n=1}^{10^9} n^n"
"""An answer that takes longer than every deadline."""
SLOW = r"\sum_{n=1}^{999999999} n^{n}"
"""Another one, in normal spelling."""

_TERMS = [rf"\frac{{x^{{{k}}}}}{{{k}+\sqrt{{2}}}}" for k in range(60)]
LONG = "+".join(_TERMS), "+".join(reversed(_TERMS))
"""An answer that takes a while to compare with its reference."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=1, deadline_seconds=1.0) as verifier:
        yield verifier


def boxed(answer: str, reference: str = "7") -> VerificationRequest:
    return VerificationRequest(f"So the answer is $\\boxed{{{answer}}}$.", reference)


def algebraic(number: int) -> VerificationRequest:
    """Request a correct answer that needs algebra, another one for each number."""
    return boxed(f"x+{number}", f"{number}+x")


@contextmanager
def one_process(**options: Any) -> Iterator[tuple[MathVerifier, psutil.Process]]:
    """A verifier with one process, which has started."""
    before = set(checking_processes())
    with MathVerifier(processes=1, **options) as verifier:
        verifier.verify([algebraic(0)])
        [process] = set(checking_processes()) - before
        yield verifier, process


def wait_until_it_works(process: psutil.Process) -> None:
    """Wait until a checking process that was idle has computed for a while."""
    before = sum(process.cpu_times()[:2])
    wait_for(lambda: sum(process.cpu_times()[:2]) > before + 0.3, what="the process works")


def causes(verifier: MathVerifier, *requests: VerificationRequest) -> list[Cause]:
    return [judgement.cause for judgement in verifier.verify(requests)]


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (VerificationRequest("I do not know.", "7"), Cause.NO_ANSWER),
        (VerificationRequest("it may be 7", "7"), Cause.CORRECT),
        (VerificationRequest(r"\boxed{1", "1", truncated=True), Cause.NO_ANSWER),
        (VerificationRequest("it may be 7", "7", truncated=True), Cause.NO_ANSWER),
        (boxed("???"), Cause.UNPARSABLE),
        (boxed("1+"), Cause.UNPARSABLE),
        (boxed("7", "???"), Cause.BAD_REFERENCE),
        (boxed("7", ""), Cause.BAD_REFERENCE),
        (boxed("7", "8" * 10_001), Cause.BAD_REFERENCE),
        (boxed("8" * 10_001, "7"), Cause.UNPARSABLE),
        (boxed("8" * 10_001, "8" * 10_001), Cause.BAD_REFERENCE),
        (boxed("8" * 10_000, "8" * 10_000), Cause.CORRECT),
        (boxed("8" * 9_999 + "7", "8" * 10_000), Cause.INCORRECT),
        (boxed("?" * 1_001), Cause.UNPARSABLE),
        (boxed("7", "?" * 1_001), Cause.BAD_REFERENCE),
        (boxed(r"\frac{1}{12}", "0.08"), Cause.CORRECT),  # no decimal can express it
        (boxed(r"\frac{3}{40}", "0.08"), Cause.INCORRECT),
        (boxed(r"\frac{1}{3}, 2", "0.33, 2"), Cause.CORRECT),
        (boxed("0.33, 2", r"\frac{1}{3}, 2"), Cause.INCORRECT),
        (boxed(r"\{\frac{1}{3}\}", "0.33"), Cause.CORRECT),
        (boxed("0.33", r"\{\frac{1}{3}\}"), Cause.INCORRECT),
        (boxed("x=(1,2)", "y=(1,2)"), Cause.INCORRECT),
        (boxed("2x+1=y+3", "3"), Cause.INCORRECT),
        (boxed(r"\sum_{k=0}^{n}\binom{n}{k}", "2^n"), Cause.CORRECT),
        (boxed(r"\sum_{k=1}^{n} k", r"\frac{n(n-1)}{2}"), Cause.INCORRECT),
        (boxed(r"\prod_{k=1}^{n} k", "n!"), Cause.CORRECT),
        (boxed(r"\sum_{k=1}^{n} k", r"\sum_{k=1}^{m} k"), Cause.INCORRECT),
    ],
)
def test_every_other_judgement_has_its_cause(
    verifier: MathVerifier, request_: VerificationRequest, cause: Cause
) -> None:
    assert causes(verifier, request_) == [cause]


def test_judgements_come_in_the_order_of_their_requests(verifier: MathVerifier) -> None:
    table = [
        (boxed("x+1", "x+2"), "x+1", Cause.INCORRECT),
        (VerificationRequest("I do not know", "1"), None, Cause.NO_ANSWER),
        (boxed(r"\dfrac{1}{2}", "0.5"), r"\dfrac{1}{2}", Cause.CORRECT),
        (boxed("1+x", "x+1"), "1+x", Cause.CORRECT),
        (boxed("x+1", "???"), "x+1", Cause.BAD_REFERENCE),
        (boxed("x+1", "x+2"), "x+1", Cause.INCORRECT),
    ]
    judgements = verifier.verify([request for request, *_ in table])
    assert judgements == [Judgement(cause, answer) for _, answer, cause in table]


@pytest.mark.parametrize(
    ("pairs", "equal"),
    [
        (("x+1", "1+x", " x + 1. ", "$1+x$"), True),
        ((r"\dfrac12", "0.5", r"\frac{1}{2}", "0.5"), True),
        (("a+b", "b+a", "a+bb", "+a"), False),  # both together are `a+bb+a`
        (("12", "3", "1", "23"), False),
        (("x", "yread z", "xread y", "z"), False),
        (("x", "y read z", "x read y", "z"), False),
        (("", "17", "1", "7"), False),
        (("1", "2", "2", "1"), False),
        (("x", "y", "X", "y"), False),
        (("x\x1c", "x", "x", "x"), False),  # a control character makes it unreadable, not another spelling
    ],
)
def test_a_key_belongs_to_one_pair(
    verifier: MathVerifier, pairs: tuple[str, str, str, str], equal: bool
) -> None:
    requests = [VerificationRequest(pairs[at], pairs[at + 1], is_answer=True) for at in (0, 2)]
    first, second = verifier.prepare(requests)
    assert (first.key == second.key) is equal
    assert len(first.key) == 16


def test_no_answer_and_an_empty_answer_are_different_pairs(verifier: MathVerifier) -> None:
    requests = [VerificationRequest("", "7"), VerificationRequest("", "7", is_answer=True)]
    assert len({pair.key for pair in verifier.prepare(requests)}) == 2


_PIECES = st.lists(st.sampled_from([*"1+x, .=", "\x1c", "\u200b", "_", "½", r"\frac12", "no"]), max_size=8)


@given(_PIECES.map("".join), st.lists(st.integers(0, 30), min_size=2, max_size=6))
def test_pairs_with_one_key_have_one_cause(verifier: MathVerifier, text: str, cuts: list[int]) -> None:
    requests = [VerificationRequest(text[:cut], text[cut:], is_answer=True) for cut in cuts]
    long = [VerificationRequest(text[:cut] + " " * 1_000, text[cut:], is_answer=True) for cut in cuts]
    by_key: dict[bytes, set[Cause | None]] = {}
    for pair in verifier.prepare([*requests, *long]):
        by_key.setdefault(pair.key, set()).add(pair.cause)
    assert all(len(found - {None}) <= 1 for found in by_key.values())


@pytest.mark.parametrize(
    ("answer", "reference", "explanation"),
    [
        ("0.5", "1/2", ("as given", "0.5", "1/2 (decimal)", "1/2", "numbers", Cause.CORRECT)),
        (" 8 ", "7", ("as given", "8", "8", "7", "numbers", Cause.INCORRECT)),
        (r"50\%", r"\$5", ("as given", r"50\%", "50 [%]", "5 [dollars]", "different units", Cause.INCORRECT)),
        (
            "(1,2]",
            r"\{1,2\}",
            (
                "as given",
                "(1,2]",
                "interval (1, 2]",
                "set of 1; 2",
                "different kinds of answer",
                Cause.INCORRECT,
            ),
        ),
        (r"so \boxed{1+x}", "x+1", ("boxed", "1+x", "1+x", "x+1", "algebra", Cause.CORRECT)),
        (
            "The answer is ???.",
            "x+1",
            ("answer", "???", "unreadable", "x+1", "the answer has no reading", Cause.UNPARSABLE),
        ),
        (SLOW, "7", ("as given", SLOW, SLOW, "7", "the comparison timed out", Cause.TIMED_OUT)),
    ],
)
def test_an_explanation_names_the_rules(
    verifier: MathVerifier, answer: str, reference: str, explanation: tuple[str, str, str, str, str, Cause]
) -> None:
    assert verifier.explain(answer, reference) == Explanation(*explanation)


@pytest.mark.skipif(not RESPONSES.exists(), reason="the real responses are not at hand")
def test_verdicts_on_real_responses_agree_with_their_labels(verifier: MathVerifier) -> None:
    rows = [json.loads(line) for line in RESPONSES.read_text().splitlines()]
    labelled = [(row["answer"], item) for row in rows for item in row["responses"]]
    found = causes(verifier, *(VerificationRequest(item["response"], answer) for answer, item in labelled))
    labels = [item["correct"] for _, item in labelled]
    assert len(labels) == 400
    assert sum((cause is Cause.CORRECT) == label for cause, label in zip(found, labels, strict=True)) >= 399


@pytest.mark.slow
def test_a_slow_pair_times_out_alone_once_and_does_not_hold_the_others_back() -> None:
    with MathVerifier(processes=2, deadline_seconds=0.5) as verifier:
        pairs = verifier.prepare([boxed(ENDLESS), *map(algebraic, range(20)), *[boxed(ENDLESS)] * 10])
        decided = list(verifier.decide(pairs))
    quick = dict.fromkeys((pair.key for pair in pairs[1:21]), Cause.CORRECT)
    assert {key: result.cause for key, result in decided} == {pairs[0].key: Cause.TIMED_OUT} | quick
    assert len(decided) == 21
    assert decided[-1][1].cause is Cause.TIMED_OUT


def test_a_process_killed_in_mid_work_costs_only_the_response_it_was_at() -> None:
    before = len(checking_processes())
    with one_process(deadline_seconds=30.0) as (verifier, process), ThreadPoolExecutor() as pool:
        requests = (algebraic(1), boxed(ENDLESS), algebraic(2), algebraic(3))
        found = pool.submit(causes, verifier, *requests)
        wait_until_it_works(process)
        process.kill()
        assert found.result() == [Cause.CORRECT, Cause.CRASHED, Cause.CORRECT, Cause.CORRECT]
        assert len(checking_processes()) == before + 1


def test_a_process_that_dies_between_calls_costs_nothing() -> None:
    before = set(checking_processes())
    with MathVerifier(processes=1) as verifier:
        for number, dead in enumerate((False, True, False)):
            assert causes(verifier, algebraic(number)) == [Cause.CORRECT]
            [process] = set(checking_processes()) - before
            process.kill()
            if dead:
                wait_for(lambda: set(checking_processes()) == before, what="the process is dead")


@pytest.mark.slow
def test_memory_is_limited() -> None:
    with one_process(deadline_seconds=0.5, memory_limit_mb=256) as (verifier, process):
        assert process.rlimit(psutil.RLIMIT_AS) == (256 << 20, 256 << 20)
        assert process.environ()["OMP_NUM_THREADS"] == "1"
        path = [place or str(Path.cwd()) for place in sys.path]
        assert process.environ()["PYTHONPATH"].split(os.pathsep) == path
        large, harmless = causes(verifier, boxed("10^{10^{9}}", "8x"), algebraic(1))
        assert large is not Cause.CORRECT
        assert harmless is Cause.CORRECT


def test_the_signals_of_the_terminal_are_for_the_parent() -> None:
    with one_process() as (verifier, process):
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(signal_)
        assert causes(verifier, algebraic(1)) == [Cause.CORRECT]
        assert process in checking_processes()


def open_files(process: psutil.Process) -> Counter[str]:
    """Count what a process has open, by kind of file, or by name."""
    folder = Path(f"/proc/{process.pid}/fd")
    return Counter(str(entry.readlink()).partition(":")[0] for entry in folder.iterdir())


def test_a_checking_process_inherits_no_thread_and_no_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "open").open("w") as file:
        server.set_inheritable(True)
        os.set_inheritable(file.fileno(), True)
        before = set(warm_processes())
        with MathVerifier(processes=2) as verifier:
            verifier.verify([algebraic(0)])
            [warm] = set(warm_processes()) - before
            processes = living_children(warm)
            assert len(processes) == 2
            assert warm.num_threads() == 1
            assert [process.num_threads() for process in processes] == [2, 2]  # the first, and one to compute
            assert open_files(warm) == {"/dev/null": 3, "socket": 1}
            assert [open_files(process) for process in processes] == [
                {"/dev/null": 3, "socket": 1, "pipe": 1}
            ] * 2


@pytest.mark.slow
def test_a_killed_warm_process_crashes_no_response() -> None:
    before = set(warm_processes())
    with MathVerifier(processes=2, deadline_seconds=0.5) as verifier, ThreadPoolExecutor() as pool:
        verifier.verify([algebraic(0)])
        [warm] = set(warm_processes()) - before
        first, second = living_children(warm)
        found = pool.submit(causes, verifier, boxed(ENDLESS), boxed(SLOW), *map(algebraic, range(5)))
        wait_until_it_works(first)
        warm.kill()
        assert found.result() == [Cause.TIMED_OUT] * 2 + [Cause.CORRECT] * 5
        assert not second.is_running()


@contextmanager
def busy_neighbours(number: int) -> Iterator[None]:
    """Keep one processor busy, and everything that is started meanwhile on it."""
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(available)})
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
        os.sched_setaffinity(0, available)


@pytest.mark.slow
def test_a_busy_neighbour_changes_no_verdict() -> None:
    with one_process(deadline_seconds=60.0) as (verifier, process):
        before = sum(process.cpu_times()[:2])
        assert causes(verifier, boxed(*LONG)) == [Cause.CORRECT]
        deadline = 2 * (sum(process.cpu_times()[:2]) - before)
    with busy_neighbours(4), one_process(deadline_seconds=deadline) as (verifier, _):
        start = time.monotonic()
        assert causes(verifier, boxed(*LONG)) == [Cause.CORRECT]
        assert time.monotonic() - start > deadline  # by the clock, it would have had no verdict


def test_threads_may_share_a_verifier(verifier: MathVerifier) -> None:
    shares = [map(algebraic, range(start, start + 20)) for start in (100, 200, 300)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda requests: causes(verifier, *requests), shares))
    assert found == [[Cause.CORRECT] * 20] * 3


def test_text_alone_starts_no_process() -> None:
    before = checking_processes()
    with MathVerifier() as verifier:
        verifier.verify([boxed("7"), boxed("8"), boxed("x + 1", "x+1"), VerificationRequest("none", "7")])
        assert verifier.check_references(["7", "1,234.5"]) == [True, True]
        assert checking_processes() == before


def test_references_are_checked_before_anything_is_drawn(verifier: MathVerifier) -> None:
    references = ["7", "???", "", r"\frac{1}{2}", "x+1", "???", "__import__('os')", "9" * 10_001]
    assert verifier.check_references(references) == [True, False, False, True, True, False, False, False]


@pytest.mark.slow
def test_a_pair_that_misses_its_deadline_is_looked_at_once_more() -> None:
    with one_process(deadline_seconds=60.0) as (verifier, process):
        before = sum(process.cpu_times()[:2])
        assert causes(verifier, boxed(*LONG)) == [Cause.CORRECT]
        seconds = sum(process.cpu_times()[:2]) - before
    with MathVerifier(processes=2, deadline_seconds=0.8 * seconds) as hasty:
        requests = [boxed(*LONG), *map(algebraic, range(4)), boxed(ENDLESS)]
        assert causes(hasty, *requests) == [Cause.CORRECT] * 5 + [Cause.TIMED_OUT]


def test_a_reference_that_misses_its_deadline_is_looked_at_once_more() -> None:
    long = "+".join(rf"\gcd({k},{k + 1})" for k in range(90))
    references = [long, r"\frac{\sqrt{3}}{", long + r"+\sin"]
    with MathVerifier(processes=1, deadline_seconds=0.002) as hasty:
        assert hasty.check_references([long], second_look_seconds=0) == [False]
        assert hasty.check_references(references) == [True, False, False]


@pytest.mark.slow
def test_the_clock_of_a_task_does_not_run_while_its_process_is_kept_from_reading_it() -> None:
    with one_process(deadline_seconds=1.0) as (verifier, process):
        process.suspend()
        threading.Timer(1.5, process.resume).start()
        assert causes(verifier, algebraic(2)) == [Cause.CORRECT]
        assert process in checking_processes()


def test_closing_leaves_no_process_and_refuses_more_work() -> None:
    before = set(checking_processes())
    verifier = MathVerifier(processes=2)
    verifier.verify([algebraic(1), algebraic(2)])
    started = set(checking_processes()) - before
    assert len(started) == 2
    verifier.close()
    verifier.close()
    assert [process for process in started if psutil.pid_exists(process.pid)] == []  # nor a zombie
    with pytest.raises(EngineError, match="the verifier is closed"):
        verifier.verify([algebraic(3)])


def test_closing_ends_a_verification_under_way() -> None:
    with one_process(deadline_seconds=60.0) as (verifier, process), ThreadPoolExecutor() as pool:
        under_way = pool.submit(verifier.verify, [boxed(ENDLESS)])
        wait_until_it_works(process)
        verifier.close()
        with pytest.raises(EngineError, match="closed during a verification"):
            under_way.result(timeout=10.0)


@pytest.mark.slow
def test_the_processes_die_with_their_parent() -> None:
    script = (
        "from hsstar.verifier import MathVerifier, VerificationRequest\n"
        "verifier = MathVerifier(processes=1, deadline_seconds=60)\n"
        "verifier.verify([VerificationRequest('x+1', '1+x', is_answer=True)])\n"
        "print('ready', flush=True)\n"
        f"verifier.verify([VerificationRequest(r'{ENDLESS}', '7', is_answer=True)])\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"ready\n"
            [child] = checking_processes(parent.pid)
            wait_until_it_works(child)
        finally:
            parent.kill()
    wait_for(lambda: not child.is_running(), what="the process ends with its parent")


def test_a_process_that_cannot_start_is_an_error_and_not_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with MathVerifier() as verifier, pytest.raises(EngineError, match="does not start"):
        verifier.verify([algebraic(1)])


def test_a_memory_limit_that_the_libraries_exceed_is_refused() -> None:
    with pytest.raises(EngineError, match="256"):
        MathVerifier(memory_limit_mb=255)


@given(st.integers(), st.integers())
def test_integers_are_decided_by_their_text(verifier: MathVerifier, number: int, other: int) -> None:
    equal = Cause.CORRECT if number == other else Cause.INCORRECT
    pairs = {
        (str(number), str(number)): Cause.CORRECT,
        (f"{number:,}", f" ${number}.$ "): Cause.CORRECT,
        (str(number), f"{number}.00"): Cause.CORRECT,
        (str(number), str(other)): equal,
        (f"{number:,}", str(other)): equal,
    }
    prepared = verifier.prepare([VerificationRequest(*pair, is_answer=True) for pair in pairs])
    assert [pair.cause for pair in prepared] == list(pairs.values())


def test_the_version_names_parser_and_rules(verifier: MathVerifier) -> None:
    assert verifier.version == f"math-verify {version('math-verify')}/hsstar {RULES_VERSION}"
