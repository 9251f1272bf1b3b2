"""Kinds of verification other than mathematics: what each calls right, and what it says beside that."""

import json
from contextlib import closing
from typing import Any, get_args

import pytest

from hsstar.domain.verdict import Cause, Judgement, Kind
from hsstar.domain.verification import (
    MATH,
    SETTINGS,
    ChoiceSettings,
    ExactSettings,
    GymSettings,
    JsonSettings,
    KindSettings,
    NumericSettings,
    RegexSettings,
)
from hsstar.verifier import ReferenceKind, VerificationRequest
from hsstar.verifier.kinds import make_verifier, settings_for_references
from hsstar.verifier.kinds.open_verifiers import OneVerifier, OpenVerifiers

COLOURS = "Which?\n\n(A) red\n(B) 2\n(C) dark blue\n(D) A\n(E) blue"
TWICE = "Which? A. one B. two\n\nA. one\nB. one\nC. three"
HANGS = "a" * 40 + "b"

CHOICES = [
    ("The answer is (C).", "C", COLOURS, Cause.CORRECT),
    (r"so \boxed{\text{dark blue}}", "C", COLOURS, Cause.CORRECT),
    (r"\boxed{2}", "B", COLOURS, Cause.CORRECT),  # the text of an option, not the second one
    (r"\boxed{1}", "A", COLOURS, Cause.UNPARSABLE),
    (r"\boxed{A}", "A", COLOURS, Cause.CORRECT),  # a letter, though another option reads so
    ("The answer is (A) red.", "A", COLOURS, Cause.CORRECT),
    ("The answer is (A) dark blue.", "A", COLOURS, Cause.UNPARSABLE),
    ("It must be dark blue.", "C", COLOURS, Cause.CORRECT),
    ("It must be dark blue.", "E", COLOURS, Cause.INCORRECT),
    ("It is red or blue", "E", COLOURS, Cause.NO_ANSWER),
    ("The answer is red.", "dark blue", COLOURS, Cause.INCORRECT),
    (r"\boxed{C}", "dark blue", COLOURS, Cause.CORRECT),
    (r"\boxed{c}", "C", COLOURS, Cause.CORRECT),
    (r"\boxed{one}", "A", TWICE, Cause.UNPARSABLE),
    (r"\boxed{B}", "B", TWICE, Cause.CORRECT),
    (r"\boxed{F}", "A", COLOURS, Cause.UNPARSABLE),
    (r"\boxed{A}", "F", COLOURS, Cause.BAD_REFERENCE),
    (r"\boxed{A}", "A", "no options", Cause.BAD_REFERENCE),
    ("", "A", COLOURS, Cause.NO_ANSWER),
]
TEXTS: list[tuple[KindSettings, str, str, Cause]] = [
    (ExactSettings(), r"\boxed{New  York}", " New York ", Cause.CORRECT),
    (ExactSettings(), r"\boxed{new york}", "New York", Cause.INCORRECT),
    (ExactSettings(ignore_case=True), r"\boxed{new york}", "New York", Cause.CORRECT),
    (ExactSettings(ignore_spaces=False), r"\boxed{New  York}", "New York", Cause.INCORRECT),
    (ExactSettings(), r"\boxed{1/2}", "0.5", Cause.INCORRECT),
    (ExactSettings(), "", "0.5", Cause.NO_ANSWER),
    (ExactSettings(extract=r"city: (\w+)"), "city: Rome, city: Oslo!", "Oslo", Cause.CORRECT),
    (ExactSettings(extract=r"city: (\w+)"), r"\boxed{Oslo}", "Oslo", Cause.NO_ANSWER),
    (NumericSettings(relative_tolerance=0.01), r"\boxed{1,009}", "1000", Cause.CORRECT),
    (NumericSettings(relative_tolerance=0.01), r"\boxed{1,011}", "1000", Cause.INCORRECT),
    (NumericSettings(relative_tolerance=0, absolute_tolerance=0.5), r"\boxed{-1.5}", "-2", Cause.CORRECT),
    (NumericSettings(relative_tolerance=0), r"\boxed{3/4}", "75%", Cause.CORRECT),
    (NumericSettings(relative_tolerance=0), r"\boxed{0.1}", "0.10000000000000001", Cause.INCORRECT),
    (NumericSettings(), r"\boxed{1e999}", "1", Cause.INCORRECT),
    (NumericSettings(), r"\boxed{x}", "1", Cause.UNPARSABLE),
    (NumericSettings(), r"\boxed{1/0}", "1", Cause.UNPARSABLE),
    (NumericSettings(), r"\boxed{1}", "one", Cause.BAD_REFERENCE),
    (NumericSettings(extract=r"(a+)+$"), HANGS, "1", Cause.TIMED_OUT),
    (RegexSettings(), r"\boxed{abc}", "a.c", Cause.CORRECT),
    (RegexSettings(), r"\boxed{abcd}", "a.c", Cause.INCORRECT),
    (RegexSettings(ignore_case=True), r"\boxed{ABC}", "a.c", Cause.CORRECT),
    (RegexSettings(), r"\boxed{abc}", "(", Cause.BAD_REFERENCE),
    (RegexSettings(), rf"\boxed{{{HANGS}}}", "(a+)+c", Cause.TIMED_OUT),
    (RegexSettings(), "", "a.c", Cause.NO_ANSWER),
    (RegexSettings(pattern=r"<<(\w+)>>"), "<<one>> and <<two>>", "two", Cause.CORRECT),
    (RegexSettings(pattern=r"<<(\w+)>>"), "<<one>>", "two", Cause.INCORRECT),
    (RegexSettings(pattern=r"<<(\w+)>>"), "two", "two", Cause.NO_ANSWER),
    (RegexSettings(pattern=r"(a+)+$"), HANGS, "two", Cause.TIMED_OUT),
    (
        JsonSettings(),
        'So:\n```json\n{"b": [1, 2.0], "a": true}\n```',
        '{"a": true, "b": [1.0, 2]}',
        Cause.CORRECT,
    ),
    (JsonSettings(), '```\n{"a": 1}\n```\nno:\n```\n{"a": 2}\n```', '{"a": 2}', Cause.CORRECT),
    (JsonSettings(), '{"a": 1}', '{"a": true}', Cause.INCORRECT),
    (JsonSettings(), "[1, 2]", "[2, 1]", Cause.INCORRECT),
    (JsonSettings(), '{"a": 1, "a": 2}', '{"a": 2}', Cause.UNPARSABLE),
    (JsonSettings(), "[" * 100_000, "[]", Cause.UNPARSABLE),
    (JsonSettings(), "[NaN]", "[]", Cause.UNPARSABLE),
    (JsonSettings(), r"\boxed{7}", "7.0", Cause.CORRECT),
    (JsonSettings(), "[]", "{", Cause.BAD_REFERENCE),
    (JsonSettings(keys=("a.b",)), '{"a": {"b": 1, "c": 3}}', '{"a": {"b": 1}}', Cause.CORRECT),
    (JsonSettings(keys=("a.b",)), '{"a": 1}', '{"a": {"b": 1}}', Cause.INCORRECT),
    (JsonSettings(keys=("x",)), '{"a": 1}', '{"a": 1}', Cause.BAD_REFERENCE),
]


def judged(settings: KindSettings, *requests: VerificationRequest) -> list[Judgement]:
    with closing(make_verifier(settings, 1)) as verifier:
        return verifier.verify(requests)


def kinds_of(settings: KindSettings, *requests: VerificationRequest) -> list[ReferenceKind]:
    with closing(make_verifier(settings, 1)) as verifier:
        return verifier.examine(requests)


def test_every_kind_has_settings() -> None:
    assert set(SETTINGS) == set(get_args(Kind))


def test_an_option_is_named_by_its_letter_or_its_text_and_never_by_its_place() -> None:
    requests = [
        VerificationRequest(response, reference, problem=problem)
        for response, reference, problem, _ in CHOICES
    ]
    found = judged(ChoiceSettings(), *requests)
    wrong = [
        (case, judgement)
        for case, judgement in zip(CHOICES, found, strict=True)
        if judgement.cause is not case[3]
    ]
    assert wrong == []


@pytest.mark.parametrize(("settings", "response", "reference", "cause"), TEXTS)
def test_a_response_has_the_cause_of_its_kind(
    settings: KindSettings, response: str, reference: str, cause: Cause
) -> None:
    [judgement] = judged(settings, VerificationRequest(response, reference))
    assert judgement.cause is cause, judgement


def test_a_pattern_that_hangs_costs_its_neighbours_nothing() -> None:
    requests = [VerificationRequest(text, "aaa") for text in ("aaa", HANGS, "aaa", "ab")]
    found = [judgement.cause for judgement in judged(RegexSettings(pattern="(a+)+$"), *requests)]
    assert found == [Cause.CORRECT, Cause.TIMED_OUT, Cause.CORRECT, Cause.NO_ANSWER]


@pytest.mark.parametrize(
    ("kind", "references"),
    [
        ("choice", {"C": True, "dark blue": True, "3": False, "": False}),
        ("exact", {"any": True, " ": False}),
        ("numeric", {"1/3": True, "x": False}),
        ("json", {'{"a": [1]}': True, "{": False}),
        ("python", {"any": True, "": False}),
    ],
)
def test_a_reference_is_usable_by_the_kind_that_will_judge_by_it(
    kind: str, references: dict[str, bool]
) -> None:
    requests = [VerificationRequest("", reference, problem=COLOURS) for reference in references]
    found = kinds_of(settings_for_references(kind), *requests)
    assert [examined.is_usable for examined in found] == list(references.values())


def test_versions_name_the_kind_and_differ_with_every_setting() -> None:
    different: list[KindSettings] = [
        ExactSettings(),
        ExactSettings(ignore_case=True),
        ExactSettings(extract="a"),
        RegexSettings(),
        RegexSettings(pattern="a"),
        NumericSettings(),
        NumericSettings(absolute_tolerance=1.0),
        MATH,
    ]
    versions = []
    for settings in different:
        with closing(make_verifier(settings, 1)) as verifier:
            versions.append(verifier.version)
            assert verifier.version.startswith("math-verify" if settings is MATH else settings.kind)
    assert len(set(versions)) == len(different)


def test_a_verifier_is_opened_once_per_settings_and_few_are_open() -> None:
    closed: list[Any] = []

    class Noted:
        def __init__(self, settings: KindSettings) -> None:
            self.settings = settings

        def close(self) -> None:
            closed.append(self.settings)

    several = [ExactSettings(extract=str(number)) for number in range(10)]
    opened = OpenVerifiers(Noted)  # type: ignore[arg-type]  # nothing is verified
    first = [opened.get(settings) for settings in several[:8]]
    assert [opened.get(settings) for settings in several[:8]] == first
    opened.get(several[8])
    assert closed == [several[0]]
    opened.close()
    assert len(closed) == 9


@pytest.mark.slow
def test_the_gym_scores_an_answer_of_the_problem_that_it_makes_again() -> None:
    pytest.importorskip("reasoning_gym")
    from hsstar.data.gym import generate_rows

    rows = [row for _, row in generate_rows("gym:chain_sum?size=3&seed=7&max_terms=3")]
    assert json.loads(rows[0]["id"].partition(" ")[2]) == {"max_terms": 3}

    def request(response: str, row: dict[str, Any], **other: Any) -> VerificationRequest:
        named = {"problem": row["question"], "source_id": row["id"]} | other
        return VerificationRequest(response, row["answer"], **named)

    requests = [
        *(request(rf"\boxed{{{row['answer']}}}", row) for row in rows),
        request(r"\boxed{123456}", rows[0]),
        request("", rows[0]),
        request(r"\boxed{1}", rows[0], problem="another one"),
        request(r"\boxed{1}", rows[0], source_id="17"),
    ]
    found = [(judgement.cause, judgement.detail) for judgement in judged(GymSettings(), *requests)]
    assert found == [
        *[(Cause.CORRECT, "score 1")] * 3,
        (Cause.INCORRECT, "score 0"),
        (Cause.NO_ANSWER, None),
        (Cause.BAD_REFERENCE, f"this version of reasoning-gym makes another problem of {rows[0]['id']}"),
        (Cause.BAD_REFERENCE, "'17' names no problem of reasoning-gym"),
    ]
    assert kinds_of(GymSettings(), request("", rows[0])) == [ReferenceKind.VALUE]


def test_one_verifier_in_place_of_all_is_closed_once_at_the_end() -> None:
    closed: list[Any] = []

    class Closing:
        def close(self) -> None:
            closed.append(self)

    verifier: Any = Closing()
    opened = OneVerifier(verifier)
    kinds = [NumericSettings(relative_tolerance=number / 100) for number in range(12)]
    assert all(opened.get(settings) is verifier for settings in kinds)
    assert closed == []
    opened.close()
    assert closed == [verifier]
