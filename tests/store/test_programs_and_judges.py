"""Programs and judged responses through the queue: imported, verified by a worker, and kept."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hsstar.commands.problems import import_problems
from hsstar.data.files import ProblemFiles
from hsstar.domain.lifecycle import JobKind
from hsstar.remote import http
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from hsstar.workers.context import make_context
from hsstar.workers.runtime import Worker
from tests.engines.completions_host import Host, running
from tests.store.drawing import register
from tests.store.driver import rows
from tests.store.factory import TRAIN, Drawn, add_iteration, add_job, add_run, add_samples, make_recipe
from tests.verifier.test_judge import chat

PROGRAMMING = Path(__file__).parent / "programming.jsonl"
GIVEN = [json.loads(line) for line in PROGRAMMING.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(tmp_path, tmp_path)
    context = make_context(settings, database, "worker")
    register(database, "worker")
    yield Worker("worker", [JobKind.VERIFY], settings, context, make_app("test", "memory://"))
    context.engines.close()


def add_verification(database: Database, responses: Sequence[Sequence[str]], **verification: Any) -> int:
    """A run over the problems of `TRAIN` in order, with these responses to each; the id of its job."""
    with database.begin() as connection:
        run = add_run(connection, make_recipe(verification=verification))
    ids = [row.id for row in rows(database, "SELECT id FROM problems ORDER BY id")]
    drawn = {
        problem: {slot: Drawn(response=response) for slot, response in enumerate(texts)}
        for problem, texts in zip(ids, responses, strict=True)
    }
    with database.begin() as connection:
        round_id = add_iteration(connection, run, ids).id
        add_samples(connection, round_id, drawn)
        slots = {problem: list(held) for problem, held in drawn.items()}
        return add_job(connection, round_id, JobKind.VERIFY, slots)


def judged(database: Database, job_id: int) -> list[tuple[Any, ...]]:
    """Cause, verdict and detail of the samples of a job's round, in order."""
    query = """
        SELECT cause, verdict, cause_detail FROM samples
        WHERE round_id = (SELECT round_id FROM jobs WHERE id = :id) ORDER BY problem_id, slot
    """
    return [tuple(row) for row in rows(database, query, id=job_id)]


def fenced(source: str) -> str:
    return f"This should do.\n\n```python\n{source}\n```\nDone."


def test_programs_of_a_published_layout_are_judged_by_their_tests(database: Database, worker: Worker) -> None:
    report = import_problems(database, ProblemFiles([PROGRAMMING]), TRAIN)
    assert (report.imported, report.references.unusable_count) == (len(GIVEN), 0)
    responses = [[fenced(row["code"]), fenced(row["wrong"]), "I cannot."] for row in GIVEN]
    job_id = add_verification(database, responses, kind="code", deadline_seconds=1.0)
    worker.run_job(job_id)
    found = judged(database, job_id)
    assert found[0::3] == [("correct", "correct", None)] * len(GIVEN)
    assert [each[:2] for each in found[1::3]] == [("incorrect", "incorrect")] * len(GIVEN)
    for (_, _, detail), row in zip(found[1::3], GIVEN, strict=True):
        assert row["reason"] in str(detail)
    assert found[2::3] == [("no_answer", "incorrect", "no fenced program (```python … ```)")] * len(GIVEN)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.02)

    def decide(weights: str, body: dict[str, Any]) -> dict[str, Any]:
        question = body["messages"][0]["content"]
        if "as you like" in question:
            return chat("As you like.")
        return chat(f"Well.\nVERDICT: {'correct' if 'blue whale' in question else 'incorrect'}")

    with running(Host(decide)) as server:
        yield server


def test_a_judge_is_asked_once_about_the_same_response(
    database: Database, worker: Worker, host: Host, tmp_path: Path
) -> None:
    source = tmp_path / "open.jsonl"
    source.write_text('{"problem": "Which animal is largest?", "answer": "a whale"}\n')
    import_problems(database, ProblemFiles([source]), TRAIN)
    responses = [["The blue whale.", "The mouse.", "The mouse.", "It is as you like."]]
    options = {"kind": "judge", "base_url": host.url, "model": "policy", "attempts": 2}
    first = add_verification(database, responses, **options)
    host.faults = [503]
    worker.run_job(first)
    expected = [
        ("correct", "correct", "Well.\nVERDICT: correct"),
        ("incorrect", "incorrect", "Well.\nVERDICT: incorrect"),
        ("incorrect", "incorrect", "Well.\nVERDICT: incorrect"),
        ("check_failed", None, "no verdict in the judge's answer: As you like."),
    ]
    assert judged(database, first) == expected
    assert len(host.bodies) == 4
    again = add_verification(database, responses, **options)
    worker.run_job(again)
    assert judged(database, again) == expected
    assert len(host.bodies) == 5  # only what had no verdict
    other = add_verification(database, responses, **options, rubric="Be kind.")
    worker.run_job(other)
    assert len(host.bodies) == 8


def test_a_refused_key_fails_the_job_in_a_line_and_marks_no_sample(
    database: Database, worker: Worker, host: Host, tmp_path: Path
) -> None:
    source = tmp_path / "open.jsonl"
    source.write_text('{"problem": "Which animal is largest?", "answer": "a whale"}\n')
    import_problems(database, ProblemFiles([source]), TRAIN)
    host.api_key = "right"
    job_id = add_verification(database, [["A whale."]], kind="judge", base_url=host.url, model="policy")
    worker.run_job(job_id)
    assert judged(database, job_id) == [(None, None, None)]
    [(error,)] = rows(database, "SELECT error FROM jobs WHERE id = :id", id=job_id)
    assert "HSSTAR_JUDGE_API_KEY is not set" in error and "\n" not in error
