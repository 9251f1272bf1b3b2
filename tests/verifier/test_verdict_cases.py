"""The case table: answers, references and verdicts as a person judges the mathematics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsstar.data.files import read_problems
from hsstar.domain.answers import balanced_braces
from hsstar.domain.benchmarks import BENCHMARKS as PUBLISHED
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest

CASES = [
    json.loads(line) for line in (Path(__file__).parent / "verdict_cases.jsonl").read_text().splitlines()
]
UNREADABLE: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "unreadable_references.json").read_text()
)
"""The published ids of the references that cannot be read, by benchmark."""
PAGE = Path(__file__).parents[2] / "docs" / "verifier.md"
BENCHMARKS = Path(__file__).parents[2].parent / "shared" / "data" / "benchmarks"


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=10.0) as verifier:
        yield verifier


def test_every_case_has_the_verdict_that_a_person_gives_by_algebra_and_by_texts(
    verifier: MathVerifier,
) -> None:
    pairs = verifier.prepare(
        [VerificationRequest(case["answer"], case["reference"], is_answer=True) for case in CASES]
    )
    by_algebra = dict(verifier.decide(pairs))
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


@pytest.mark.parametrize("name", ["aime24", "amc23", "gsm8k", "math500", "minerva_math", "olympiadbench"])
def test_the_references_of_a_benchmark_verify_against_themselves(verifier: MathVerifier, name: str) -> None:
    assert unreadable_references(verifier, name) == set(UNREADABLE.get(name, ()))


@pytest.mark.heavy
def test_the_references_of_college_math_verify_against_themselves(verifier: MathVerifier) -> None:
    assert unreadable_references(verifier, "college_math") == set(UNREADABLE["college_math"])


def test_the_page_says_how_many_references_cannot_be_read() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    counts = {name: (int(references.replace(",", "")), int(unread)) for name, references, unread in rows}
    assert counts == {name: (PUBLISHED[name].problems, len(ids)) for name, ids in UNREADABLE.items()}


def unreadable_references(verifier: MathVerifier, name: str) -> set[str]:
    """Return the ids of the references that cannot be read; check that all others equal themselves."""
    path = BENCHMARKS / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    references = [problem.reference for problem in read_problems(path)]
    readable = verifier.check_references(references)
    judgements = verifier.verify([VerificationRequest(text, text, is_answer=True) for text in references])
    assert all(
        judgement.cause == "correct" for judgement, fine in zip(judgements, readable, strict=True) if fine
    )
    return {published_id(row) for row, fine in zip(rows, readable, strict=True) if not fine}


def published_id(row: dict[str, object]) -> str:
    if "question_number" in row:
        return f"{row['data_source']}: {row['question_number']}"
    return str(row.get("id", row.get("idx")))
