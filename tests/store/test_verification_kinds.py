"""Verification jobs follow the recipe's kind of their dataset; details are stored and shown beside causes."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.commands.explanations import explain
from hsstar.commands.reverify import ReverifyRequest, RoundReport, open_verifiers, reverify
from hsstar.domain.errors import MissingDependencyError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import Problem
from hsstar.insights.samples import list_samples
from hsstar.settings import Settings
from hsstar.stages import verify
from hsstar.store import datasets
from hsstar.store.database import Database
from hsstar.store.queue.jobs import Job
from hsstar.store.read.samples import SampleFilter
from hsstar.verifier.kinds import make_verifier
from hsstar.verifier.kinds.open_verifiers import OpenVerifiers
from tests.store import noting
from tests.store.driver import rows
from tests.store.factory import Drawn, add_iteration, add_job, add_run, add_samples, claim, make_recipe

QUIZ = "Which?\n\n(A) red\n(B) blue"
FUNCTION = """
def check(response, reference, problem):
    if "raise" in response:
        raise ValueError("unlucky")
    return problem == "count" and len(response) == int(reference)
"""
KINDS: dict[str, dict[str, Any]] = {
    "train": {"kind": "math"},
    "quiz": {"kind": "choice"},
    "names": {"kind": "exact", "ignore_case": True},
    "lengths": {"kind": "numeric", "absolute_tolerance": 0.5},
    "codes": {"kind": "regex"},
    "records": {"kind": "json", "keys": ["total"]},
    "sums": {"kind": "gym"},
    "own": {"kind": "python", "function": "own.py:check", "source": FUNCTION, "memory_limit_mb": 1024},
}
RIGHT, WRONG = ("correct", None), ("incorrect", None)
JUDGED: dict[str, list[tuple[str, str, str, tuple[str, str | None]]]] = {
    "train": [("p", "0.5", r"\boxed{\frac{1}{2}}", RIGHT)],
    "quiz": [
        (QUIZ, "B", "it is blue", ("correct", "option B")),
        (QUIZ, "B", "(A)", ("incorrect", "option A")),
    ],
    "names": [("p", "Oslo", r"\boxed{oslo}", RIGHT), ("p", "Oslo", r"\boxed{Rome}", WRONG)],
    "lengths": [("p", "3", r"\boxed{3.4}", RIGHT), ("p", "3", r"\boxed{4}", ("incorrect", "off by 1"))],
    "codes": [
        ("p", r"[a-z]\d", r"\boxed{b7}", RIGHT),
        ("p", r"[a-z]\d", r"\boxed{bb}", WRONG),
        ("p", "(a+)+c", rf"\boxed{{{'a' * 40}b}}", ("timed_out", "the pattern timed out")),
    ],
    "records": [
        ("p", '{"total": 3}', '{"total": 3.0, "of": 4}', RIGHT),
        ("p", '{"total": 3}', '{"total": 4}', ("incorrect", "another value under 'total'")),
    ],
    "own": [
        ("count", "2", "12", RIGHT),
        ("count", "2", "1", WRONG),
        ("count", "2", "raise", ("check_failed", "ValueError: unlucky (line 4 of own.py)")),
        ("other", "2", "12", WRONG),
    ],
}


def recipe_of(**sections: Any) -> Any:
    own = {name: keys for name, keys in KINDS.items() if name != "train"}
    return make_recipe(verification=KINDS["train"] | {"datasets": own}, **sections)


def add_verification(database: Database, dataset: str, problems: list[Problem], responses: list[str]) -> Job:
    """A claimed job over a response to each problem, of a run whose recipe has all kinds."""
    with database.begin() as connection:
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, problems, [True] * len(problems))
        by_key = datasets.problem_ids(connection, dataset_id, [problem.key for problem in problems])
        ids = [by_key[problem.key] for problem in problems]
        run = add_run(connection, recipe_of(), name=f"run-{dataset}")
        round_id = add_iteration(connection, run, ids).id
        for problem_id, response in zip(ids, responses, strict=True):
            add_samples(connection, round_id, {problem_id: {0: Drawn(response=response)}})
        job_id = add_job(connection, round_id, JobKind.VERIFY, {problem_id: [0] for problem_id in ids})
        return claim(connection, job_id)


def run_jobs(database: Database, *verifications: Job) -> None:
    context = noting.make_context(database, verifier=lambda settings: make_verifier(settings, 1))
    try:
        for job in verifications:
            verify.run(context, job)
    finally:
        context.engines.close()


def verdicts(database: Database, job: Job) -> list[tuple[str | None, str | None]]:
    query = "SELECT cause, cause_detail FROM samples WHERE round_id = :id ORDER BY id"
    return [(row.cause, row.cause_detail) for row in rows(database, query, id=job.round_id)]


def numbered(statement: str, place: int) -> str:
    """Statements of one dataset differ, except where a function looks at them."""
    return statement if statement in ("count", "other") else f"{place}\n{statement}"


def of_dataset(database: Database, dataset: str) -> Job:
    judged = JUDGED[dataset]
    problems = [
        Problem(numbered(statement, place), reference, source_id=str(place), occurrence=place)
        for place, (statement, reference, _, _) in enumerate(judged)
    ]
    return add_verification(database, dataset, problems, [response for _, _, response, _ in judged])


@pytest.mark.slow
def test_each_dataset_is_verified_by_its_kind_and_details_are_stored(database: Database) -> None:
    verifications = {dataset: of_dataset(database, dataset) for dataset in JUDGED}
    run_jobs(database, *verifications.values())
    for dataset, job in verifications.items():
        assert verdicts(database, job) == [expected for *_, expected in JUDGED[dataset]], dataset
    versions = rows(database, "SELECT DISTINCT verifier FROM samples ORDER BY 1")
    assert len(versions) == len(JUDGED)
    known = rows(database, "SELECT split_part(verifier_version, ' ', 1) AS of, cause FROM known_verdicts")
    assert {(row.of, row.cause) for row in known} == {
        ("regex", "correct"),
        ("regex", "incorrect"),
        ("own.py:check", "correct"),
        ("own.py:check", "incorrect"),
    }


@pytest.mark.slow
def test_problems_of_the_gym_are_scored_by_their_task(database: Database) -> None:
    pytest.importorskip("reasoning_gym")
    from hsstar.data.files import read_problems

    problems = list(read_problems(Path("gym:chain_sum?size=3&seed=7&max_terms=3")))
    responses = [rf"so \boxed{{{problem.reference}}}" for problem in problems[:2]] + [r"so \boxed{123456}"]
    job = add_verification(database, "sums", problems, responses)
    run_jobs(database, job)
    assert verdicts(database, job) == [
        ("correct", "score 1"),
        ("correct", "score 1"),
        ("incorrect", "score 0"),
    ]


def test_a_view_a_page_and_an_explanation_show_the_detail(database: Database) -> None:
    run_jobs(database, of_dataset(database, "own"))
    query = "SELECT cause_detail FROM {} WHERE run = 'run-own' AND cause = 'check_failed'"
    for view in ("sample_facts", "responses"):
        [row] = rows(database, query.format(view))
        assert row.cause_detail == "ValueError: unlucky (line 4 of own.py)"
    [sample] = list_samples(database, "run-own", SampleFilter(cause="check_failed")).samples
    assert sample.cause_detail == "ValueError: unlucky (line 4 of own.py)"
    with closing(OpenVerifiers(lambda settings: make_verifier(settings, 1))) as verifiers:
        explained = explain(database, verifiers, sample)
    assert (explained["cause"], explained["detail"]) == ("check_failed", sample.cause_detail)
    assert explained["verifier"] == sample.verifier


def test_judging_again_follows_the_kind_and_a_failed_check_replaces_no_verdict(database: Database) -> None:
    job = of_dataset(database, "own")
    run_jobs(database, job)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE samples SET cause = 'incorrect', verdict = 'incorrect' WHERE round_id = :id"),
            {"id": job.round_id},
        )
    reports: list[RoundReport] = []
    with closing(open_verifiers(None)) as verifiers:
        request = ReverifyRequest(run="run-own", author="me")
        settings = Settings(Path("/nonexistent"), Path("/nonexistent"))
        changes = list(reverify(database, request, verifiers, settings, reports))
    assert [(change.before, change.after) for change in changes] == [("incorrect", "correct")]
    assert [(report.judged, report.undecided) for report in reports] == [(4, 1)]


def test_a_recipe_whose_function_is_none_makes_no_run(database: Database, tmp_path: Path) -> None:
    from hsstar.commands.runs import create_run

    keys = {"kind": "python", "function": "own.py:check", "source": "def check(a): return True"}
    recipe = make_recipe(
        policy={"model": "builtin:demo-policy"}, reward={"model": "builtin:demo-prm"}, verification=keys
    )
    with pytest.raises(MissingDependencyError, match=r"cannot load own\.py:check: TypeError: expected check"):
        create_run(database, recipe, "refused", tmp_path)
    assert rows(database, "SELECT FROM runs") == []
