"""The verifier against answers and references made to hang, grow, crash or take it over."""

import gc
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from tests.verifier.hostile_answers import HOSTILE_ANSWERS
from tests.verifier.processes import processor_seconds

PROCESSES = 2
DEADLINE_SECONDS = 0.5
LOOKS_SECONDS = 3 * DEADLINE_SECONDS
SECONDS_TO_REPLACE_A_PROCESS = 1.0
SECONDS_TO_START = 20.0
HARMLESS = "x+8"
"""A reference that no hostile answer equals; most of them need algebra to be compared with it."""
MOST_SECONDS = {"very long": 0.25, "longest": 2.0, "large": 0.5, "megabytes": 2.0}
"""The most seconds to prepare one answer; shorter ones have less, so that both show what is not linear."""
QUICK_KINDS = ["code", "texts", "junk", *MOST_SECONDS]
SLOW_KINDS = [kind for kind in HOSTILE_ANSWERS if kind not in QUICK_KINDS]
"""Kinds of which most answers reach the deadline; the quick tests decide two of each."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(PROCESSES, DEADLINE_SECONDS, memory_limit_mb=1024) as verifier:
        verifier.verify([neighbour(0)])
        yield verifier


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Return the file that exists only if something in an answer was run."""
    path = tmp_path / "was_run"
    yield path
    assert not path.exists()


def hostile_answers(kind: str, marker: Path) -> list[str]:
    return [text.replace("{marker}", str(marker)) for text in HOSTILE_ANSWERS[kind].values()]


def in_a_box(answer: str, reference: str = HARMLESS) -> VerificationRequest:
    return VerificationRequest(f"So the answer is $\\boxed{{{answer}}}$.", reference)


def forms_of(answer: str) -> list[VerificationRequest]:
    """Request a hostile answer in a box, by itself, as a whole response, and as a reference."""
    return [
        in_a_box(answer),
        VerificationRequest(answer, HARMLESS, is_answer=True),
        VerificationRequest(answer, HARMLESS),
        VerificationRequest(answer, HARMLESS, truncated=True),
        in_a_box(HARMLESS, answer),
    ]


def neighbour(number: int) -> VerificationRequest:
    """Request a correct answer that needs algebra, another one for each number."""
    if number % 2:
        return in_a_box(rf"\sqrt{{{12 * number**2}}}", rf"{2 * number}\sqrt{{3}}")
    return in_a_box(f"x+{number + 3}", f"{number + 3}+x")


def prepare_quickly(
    verifier: MathVerifier, requests: Sequence[VerificationRequest], most_seconds: float = 2.0
) -> list[AnswerPair]:
    """Extract and compare as texts: this runs in the worker, so its time is linear in the length."""
    pairs, seconds = list[AnswerPair](), list[float]()
    gc.disable()  # the garbage of the tests before takes up to a second
    try:
        for request in requests:
            start = time.thread_time()
            pairs += verifier.prepare([request])
            seconds.append(time.thread_time() - start)
    finally:
        gc.enable()
    slowest = requests[seconds.index(max(seconds))]
    assert max(seconds) < most_seconds, (slowest.response[:80], slowest.reference[:80])
    assert sum(seconds) < 30.0
    return pairs


def longest_seconds(pairs: int) -> float:
    """Return the longest processor time for a number of pairs, if every one has to be killed twice."""
    return SECONDS_TO_START + pairs * (LOOKS_SECONDS + 2 * SECONDS_TO_REPLACE_A_PROCESS)


def assert_harmless(verifier: MathVerifier, pairs: Sequence[AnswerPair]) -> None:
    """Decide hostile pairs among normal ones: each gets a cause in time, none is correct."""
    every = 10
    neighbours = verifier.prepare([neighbour(number) for number in range(0, len(pairs), every)])
    mixed = list[AnswerPair]()
    for index, pair in enumerate(pairs):
        mixed += [neighbours[index // every], pair] if index % every == 0 else [pair]
    start = processor_seconds()
    open_pairs = [pair for pair in mixed if pair.cause is None]
    causes = {key: result.cause for key, result in verifier.decide(open_pairs)}
    assert processor_seconds() - start < longest_seconds(len(mixed))
    assert {causes[pair.key] for pair in neighbours} == {Cause.CORRECT}
    wrong = [pair for pair in pairs if (pair.cause or causes[pair.key]) is Cause.CORRECT]
    assert [((pair.answer or "")[:80], pair.reference[:80]) for pair in wrong] == []


def assert_checked(verifier: MathVerifier, references: Sequence[str]) -> None:
    """Check hostile references beside a normal one: each gets its answer in time."""
    start = processor_seconds()
    readable = verifier.check_references([*references, r"\sqrt{12}"], second_look_seconds=0)
    assert len(readable) == len(references) + 1
    assert readable[-1]
    assert processor_seconds() - start < longest_seconds(len(readable))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.heavy if kind in ("very long", "longest", "megabytes") else ())
        for kind in HOSTILE_ANSWERS
    ],
)
def test_hostile_texts_end_in_time_and_their_neighbours_keep_their_verdicts(
    verifier: MathVerifier, marker: Path, kind: str
) -> None:
    answers = hostile_answers(kind, marker)
    most_seconds = MOST_SECONDS.get(kind, 2.0)
    forms = [prepare_quickly(verifier, forms_of(text), most_seconds) for text in answers]
    if kind in QUICK_KINDS:
        assert_harmless(verifier, [pair for pairs in forms for pair in pairs])
        assert_checked(verifier, answers)
    else:
        middle = len(answers) // 2
        assert_harmless(verifier, [*forms[0], forms[middle][0]])
        assert_checked(verifier, [answers[middle]])


@pytest.mark.heavy
@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_all_slow_texts_end_in_time_and_their_neighbours_keep_their_verdicts(
    verifier: MathVerifier, marker: Path, kind: str
) -> None:
    answers = hostile_answers(kind, marker)
    for form in (0, -1):
        assert_harmless(verifier, verifier.prepare([forms_of(answer)[form] for answer in answers]))
    assert_checked(verifier, answers)


def random_responses(number: int, marker: Path) -> list[VerificationRequest]:
    """Return responses of prose, formulas and hostile answers, always the same."""
    chance = random.Random(7)
    kinds = [*SLOW_KINDS, "code", "texts"]
    hostile = [answer for kind in kinds for answer in hostile_answers(kind, marker)]
    prose = ["We factor. ", "Let $n = 7$.\n", r"\boxed{9}", "\n\n", "{", "}", "$", "\\", "1,234 ", "is "]
    frames = [r"\boxed{%s}", "The answer is %s.", "$%s$", r"\(%s\)", "#### %s\n", r"\boxed %s", "Answer: %s"]

    def part() -> str:
        if chance.random() < 0.6:
            return chance.choice(prose)
        return chance.choice(frames).replace("%s", chance.choice(hostile))

    responses = ["".join(part() for _ in range(chance.randint(1, 9))) for _ in range(number)]
    return [VerificationRequest(text, HARMLESS, truncated=chance.random() < 0.2) for text in responses]


@pytest.mark.slow
def test_random_responses_with_hostile_answers_end_in_time(verifier: MathVerifier, marker: Path) -> None:
    pairs = prepare_quickly(verifier, random_responses(500, marker))
    assert_harmless(verifier, pairs[:8])


@pytest.mark.heavy
def test_many_random_responses_with_hostile_answers_end_in_time(verifier: MathVerifier, marker: Path) -> None:
    assert_harmless(verifier, verifier.prepare(random_responses(200, marker)))
