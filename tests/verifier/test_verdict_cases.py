"""The case table: answers, references and verdicts as a person judges the mathematics."""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import pytest

from hsstar.data.files import read_problems
from hsstar.domain.answers import balanced_braces
from hsstar.domain.benchmarks import BENCHMARKS as PUBLISHED
from hsstar.domain.verdict import Cause
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest
from hsstar.verifier.forms import Form, Formula, Sequence, Unreadable, Words
from hsstar.verifier.numeric import Number
from hsstar.verifier.reading import read
from hsstar.verifier.spelling import _BEFORE_FONTS, _SPELLINGS, normal_spelling

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "verdict_cases.jsonl").read_text().splitlines()]
FORMS = [json.loads(line) for line in (HERE / "read_forms.jsonl").read_text().splitlines()]
UNREADABLE: dict[str, list[str]] = json.loads((HERE / "unreadable_references.json").read_text())
"""The published ids of the references that cannot be read, by benchmark."""
PAGE = Path(__file__).parents[2] / "docs" / "verifier.md"
BENCHMARKS = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"
published = pytest.mark.skipif(not BENCHMARKS.exists(), reason="the benchmark files are not at hand")


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=10.0) as verifier:
        yield verifier


@pytest.mark.slow
def test_every_case_has_the_verdict_that_a_person_gives_by_algebra_and_by_texts(
    verifier: MathVerifier,
) -> None:
    pairs = verifier.prepare(
        [VerificationRequest(case["answer"], case["reference"], is_answer=True) for case in CASES]
    )
    by_algebra = {key: result.cause for key, result in verifier.decide(pairs)}
    wrong = [
        f"{case['answer']!r} against {case['reference']!r} is {by_algebra[pair.key]} by algebra, "
        f"{pair.cause} by texts; {case['cause']}: {case['why']}"
        for case, pair in zip(CASES, pairs, strict=True)
        if by_algebra[pair.key] != case["cause"] or pair.cause not in (None, case["cause"])
    ]
    assert wrong == []


def test_an_answer_in_a_box_is_the_same_as_the_answer_itself(verifier: MathVerifier) -> None:
    for case in CASES:
        if balanced_braces(case["answer"]):
            boxed = VerificationRequest(rf"So it is \boxed{{{case['answer']}}}.", case["reference"])
            bare = VerificationRequest(case["answer"], case["reference"], is_answer=True)
            first, second = verifier.prepare([boxed, bare])
            assert first.cause is second.cause is not None or first.key == second.key, case


def test_the_table_is_large_and_has_every_kind_of_case() -> None:
    assert len({case["form"] for case in CASES}) == 38
    assert len({(case["answer"], case["reference"]) for case in CASES}) == len(CASES)
    assert {case["cause"] for case in CASES} == {"correct", "incorrect", "unparsable", "bad_reference"}
    assert f"{len(CASES):,} cases with a person's verdict" in PAGE.read_text()


def test_a_spelling_is_looked_for_in_all_texts_that_it_changes() -> None:
    texts = {text for case in CASES for text in (case["answer"], case["reference"])}
    texts |= {normal_spelling(text) for text in texts}
    spellings = (*_BEFORE_FONTS, *_SPELLINGS)
    changed = [(needed, text) for needed, pattern, _ in spellings for text in texts if pattern.search(text)]
    assert len({needed for needed, _ in changed}) > 30
    assert [change for change in changed if not any(part in change[1] for part in change[0])] == []


@pytest.mark.parametrize("row", FORMS, ids=lambda row: row["text"])
def test_a_text_is_read_in_the_form_that_a_person_sees(row: dict[str, str]) -> None:
    assert str(read(row["text"])) == row["form"]


def test_a_unit_is_the_same_however_it_is_written() -> None:
    same = {
        "5 feet squared": "5 sq ft", "5 cm cubed": "5 cubic centimeters", "5 miles per hour": "5 mph",
        r"5\text{ m}\text{s}^{-2}": "5 m/s^2", "5 square m/s": r"5\text{ m}^2/\text{s}", "5 cu ft": "5 ft^3",
        "5 km/hr": "5 kph", "5 percentage points": r"5\%",
    }  # fmt: skip
    assert [pair for pair in same.items() if read(pair[0]) != read(pair[1])] == []
    assert len(set(map(read, same))) == len(same)


def rows_of(number: int) -> str:
    return r"\begin{aligned}" + r"\\".join(map(str, range(number))) + r"\end{aligned}"


@pytest.mark.parametrize(
    ("longest", "longer", "kinds"),
    [
        ("8" * 2_000, "8" * 2_001, (Number, Words)),
        ("8" * 10_000, "8" * 10_001, (Words, Unreadable)),
        ("many " * 12, "many " * 13, (Words, Unreadable)),
        ("(" * 30 + "7" + ")" * 30, "(" * 31 + "7" + ")" * 31, (Number, Unreadable)),
        ("1e2000", "1e2001", (Number, Formula)),
        ("2^{1000}", "2^{1001}", (Number, Formula)),
        (r"1\pm2\pm3\pm4", r"1\pm2\pm3\pm4\pm5", (Sequence, Unreadable)),
        (r"(\pm1,\pm2,\pm3,\pm4)", r"(\pm1,\pm2,\pm3,\pm4,\pm5)", (Sequence, Unreadable)),
        (f"({rows_of(16)},1)", f"({rows_of(17)},1)", (Sequence, Unreadable)),
    ],
)
def test_what_is_too_large_is_not_computed(longest: str, longer: str, kinds: tuple[type, type]) -> None:
    assert (type(read(longest)), type(read(longer))) == kinds


def test_what_is_nested_deeper_than_python_can_follow_is_unreadable() -> None:
    def read_below(frames: int) -> Form:
        return read_below(frames - 1) if frames else read("(" * 29 + "9" + ")" * 29)

    assert read_below(sys.getrecursionlimit() - len(inspect.stack()) - 60) == Unreadable()


@published
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.heavy if name == "college_math" else ()) for name in PUBLISHED],
)
def test_the_references_of_a_benchmark_verify_against_themselves(verifier: MathVerifier, name: str) -> None:
    path = BENCHMARKS / f"{name}.jsonl"
    references = [problem.reference for problem in read_problems(path)]
    readable = verifier.check_references(references)
    judgements = verifier.verify([VerificationRequest(text, text, is_answer=True) for text in references])
    assert {judgement.cause for judgement in compress(judgements, readable)} == {Cause.CORRECT}
    unreadable = compress(path.read_text().splitlines(), [not fine for fine in readable])
    assert {published_id(json.loads(line)) for line in unreadable} == set(UNREADABLE.get(name, ()))


@published
@pytest.mark.parametrize("name", ["aime24", "gsm8k", "math500", "minerva_math"])
def test_published_solutions_that_mark_their_answers_are_correct(verifier: MathVerifier, name: str) -> None:
    solved = [(row.solution or "", row.reference) for row in read_problems(BENCHMARKS / f"{name}.jsonl")]
    judgements = verifier.verify([VerificationRequest(*pair) for pair in solved])
    correct = sum(judgement.cause is Cause.CORRECT for judgement in judgements)
    assert correct >= 0.99 * PUBLISHED[name].problems


def test_the_page_says_how_many_references_cannot_be_read() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    counts = {name: (int(references.replace(",", "")), int(unread)) for name, references, unread in rows}
    assert counts == {name: (PUBLISHED[name].problems, len(ids)) for name, ids in UNREADABLE.items()}


def published_id(row: dict[str, object]) -> str:
    if "question_number" in row:
        return f"{row['data_source']}: {row['question_number']}"
    return str(row.get("id", row.get("idx")))
