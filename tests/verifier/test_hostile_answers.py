"""The verifier against answers and references made to hang, grow, crash or take it over."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from tests.verifier.hostile_answers import HOSTILE_ANSWERS

PROCESSES = 2
DEADLINE_SECONDS = 1.0
MEMORY_LIMIT_MB = 1024
SECONDS_TO_REPLACE_A_PROCESS = 5.0
SECONDS_TO_START = 20.0
HARMLESS = "x+8"
"""A reference that no hostile answer equals; most of them need algebra to be compared with it."""
QUICK_KINDS = ["code", "texts", "very long", "megabytes"]
SLOW_KINDS = [kind for kind in HOSTILE_ANSWERS if kind not in QUICK_KINDS]
SAMPLED = 4
"""The number of answers of each slow kind in the quick tests; most of them reach the deadline."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(PROCESSES, DEADLINE_SECONDS, MEMORY_LIMIT_MB) as verifier:
        verifier.verify([neighbour(0)])
        watch = MemoryWatch()
        yield verifier
        assert watch.stop() < PROCESSES * MEMORY_LIMIT_MB << 20


class MemoryWatch:
    """Sample the resident memory of all checking processes together until stopped."""

    def __init__(self) -> None:
        self._most = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """Return the highest sample, in bytes."""
        self._stopped.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._stopped.wait(0.1):
            self._most = max(self._most, sum(map(resident_bytes, psutil.Process().children())))


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a checking process; 0 if it is none, or is being replaced."""
    try:
        checking = "hsstar.verifier.process" in process.cmdline()
        return int(process.memory_info().rss) if checking else 0
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Return the file that exists only if something in an answer was run."""
    path = tmp_path / "was_run"
    yield path
    assert not path.exists()


def hostile_answers(kind: str, marker: Path) -> dict[str, str]:
    """Return the hostile answers of one kind by name."""
    answers = HOSTILE_ANSWERS[kind]
    return {name: text.replace("{marker}", str(marker)) for name, text in answers.items()}


def sampled(answers: dict[str, str]) -> dict[str, str]:
    """Return a few of many answers, spread evenly and always the same."""
    return dict(list(answers.items())[:: -(-len(answers) // SAMPLED)])


def in_a_box(answer: str) -> str:
    return f"So the answer is $\\boxed{{{answer}}}$."


def as_answers(answer: str) -> list[VerificationRequest]:
    """Request a hostile answer in a box, by itself, and as a whole response."""
    return [
        VerificationRequest(in_a_box(answer), HARMLESS),
        VerificationRequest(answer, HARMLESS, is_answer=True),
        VerificationRequest(answer, HARMLESS),
        VerificationRequest(answer, HARMLESS, truncated=True),
    ]


def as_reference(answer: str) -> VerificationRequest:
    return VerificationRequest(in_a_box(HARMLESS), answer)


def neighbour(number: int) -> VerificationRequest:
    """Request a correct answer that needs algebra, another one for each number."""
    if number % 2:
        return VerificationRequest(in_a_box(rf"\sqrt{{{12 * number**2}}}"), rf"{2 * number}\sqrt{{3}}")
    return VerificationRequest(in_a_box(f"x+{number + 3}"), f"{number + 3}+x")


def assert_harmless(verifier: MathVerifier, requests: Sequence[VerificationRequest]) -> None:
    """Verify hostile requests among normal ones: each gets a judgement in time, none is correct."""
    every = 10
    mixed: list[VerificationRequest] = []
    for index, request in enumerate(requests):
        if index % every == 0:
            mixed.append(neighbour(index))
        mixed.append(request)
    start = time.monotonic()
    judgements = verifier.verify(mixed)
    seconds = time.monotonic() - start
    neighbours, hostile = judgements[:: every + 1], list(judgements)
    del hostile[:: every + 1]
    assert len(hostile) == len(requests)
    assert {judgement.cause for judgement in neighbours} == {Cause.CORRECT}
    assert [
        request.response[:80]
        for request, judgement in zip(requests, hostile, strict=True)
        if judgement.cause is Cause.CORRECT
    ] == []
    assert seconds < longest_seconds(len(mixed))


def longest_seconds(pairs: int) -> float:
    """Return the longest time for a number of pairs, if every one has to be killed."""
    return SECONDS_TO_START + pairs * (DEADLINE_SECONDS + SECONDS_TO_REPLACE_A_PROCESS) / PROCESSES


def assert_checked(verifier: MathVerifier, references: Sequence[str]) -> None:
    """Check hostile references beside a normal one: each gets its answer in time."""
    start = time.monotonic()
    readable = verifier.check_references([*references, r"\sqrt{12}"], second_look_seconds=0)
    assert len(readable) == len(references) + 1
    assert readable[-1]
    assert time.monotonic() - start < longest_seconds(len(readable))


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_hostile_answers_end_in_time_and_their_neighbours_keep_their_verdicts(
    verifier: MathVerifier, marker: Path, kind: str
) -> None:
    answers = hostile_answers(kind, marker)
    assert_harmless(verifier, [request for answer in answers.values() for request in as_answers(answer)])


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_hostile_references_end_in_time(verifier: MathVerifier, marker: Path, kind: str) -> None:
    references = hostile_answers(kind, marker).values()
    assert_harmless(verifier, list(map(as_reference, references)))
    assert_checked(verifier, list(references))


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_some_slow_answers_end_in_time_and_their_neighbours_keep_their_verdicts(
    verifier: MathVerifier, marker: Path, kind: str
) -> None:
    answers = sampled(hostile_answers(kind, marker)).values()
    assert_harmless(verifier, [request for answer in answers for request in as_answers(answer)])


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_some_slow_references_end_in_time(verifier: MathVerifier, marker: Path, kind: str) -> None:
    [first, *others] = sampled(hostile_answers(kind, marker)).values()
    assert_harmless(verifier, [as_reference(first)])
    assert_checked(verifier, others)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_all_slow_answers_end_in_time_and_their_neighbours_keep_their_verdicts(
    verifier: MathVerifier, marker: Path, kind: str
) -> None:
    answers = hostile_answers(kind, marker).values()
    assert_harmless(verifier, [VerificationRequest(in_a_box(answer), HARMLESS) for answer in answers])


@pytest.mark.heavy
@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_all_slow_references_end_in_time(verifier: MathVerifier, marker: Path, kind: str) -> None:
    references = hostile_answers(kind, marker).values()
    assert_harmless(verifier, list(map(as_reference, references)))
    assert_checked(verifier, list(references))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", HOSTILE_ANSWERS)
def test_what_no_deadline_watches_is_quick(verifier: MathVerifier, marker: Path, kind: str) -> None:
    """Extraction and comparison of texts run in the worker, so their time is linear in the length."""
    seconds: dict[str, float] = {}
    for name, answer in hostile_answers(kind, marker).items():
        for form, request in enumerate([*as_answers(answer), as_reference(answer)]):
            start = time.thread_time()
            verifier.prepare([request])
            seconds[f"{name} ({form})"] = round(time.thread_time() - start, 3)
    slow = {name: taken for name, taken in seconds.items() if taken > 0.05}
    assert max(seconds.values()) < 0.5, slow
    assert sum(seconds.values()) < 15.0, slow


def random_responses(number: int, marker: Path) -> list[VerificationRequest]:
    """Return responses of prose, formulas and hostile answers, always the same."""
    chance = random.Random(7)
    hostile = [
        answer for kind in [*SLOW_KINDS, "code", "texts"] for answer in hostile_answers(kind, marker).values()
    ]
    prose = ["We factor. ", "Let $n = 7$.\n", r"\boxed{9}", "\n\n", "{", "}", "$", "\\", "1,234 ", "is "]
    frames = [
        r"\boxed{%s}",
        "The answer is %s.",
        "$%s$",
        r"\(%s\)",
        "#### %s\n",
        r"\boxed %s",
        "**Answer:** %s",
    ]

    def part() -> str:
        if chance.random() < 0.6:
            return chance.choice(prose)
        return chance.choice(frames).replace("%s", chance.choice(hostile))

    return [
        VerificationRequest(
            "".join(part() for _ in range(chance.randint(1, 9))), HARMLESS, truncated=chance.random() < 0.2
        )
        for _ in range(number)
    ]


def test_random_responses_with_hostile_answers_end_in_time(verifier: MathVerifier, marker: Path) -> None:
    responses = random_responses(1_000, marker)
    start = time.thread_time()
    comparisons = verifier.prepare(responses)
    assert time.thread_time() - start < 15.0
    assert len(comparisons) == len(responses)
    assert_harmless(verifier, responses[:15])


@pytest.mark.heavy
def test_many_random_responses_with_hostile_answers_end_in_time(verifier: MathVerifier, marker: Path) -> None:
    assert_harmless(verifier, random_responses(200, marker))
