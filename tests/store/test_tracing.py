"""A worker exports a span per attempt and part where OTEL variables ask for it, and else imports nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hsstar.conductor import Conductor
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.settings import Settings
from hsstar.store import rounds
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier
from hsstar.workers.tracing import make_tracing
from tests.store.drawing import Sampling
from tests.store.driver import Worker, checkpoint, small_engines, verifier
from tests.store.factory import add_problems, add_run, make_recipe

__all__ = ["checkpoint", "verifier"]  # fixtures

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from hsstar.domain.errors import EngineDeadError
from hsstar.store.database import Database
from tests.store.drawing import make_worker

def dead(*_):
    raise EngineDeadError("no engine")

url, first, *others = sys.argv[1:]
for name, engine, ids in (("dies", [dead], [first]), ("works", [], others)):
    worker = make_worker(Database(url), *engine, name=name)
    worker.start()
    for job_id in ids:
        worker.run_job(int(job_id))
    worker.stop()
print("opentelemetry.sdk.trace.export" in sys.modules, file=sys.stderr)  # redis imports a part of it
"""


class Spans:
    """Remembers the spans that are opened, each by its path."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.told: list[tuple[str, ...]] = []

    @contextmanager
    def __call__(self, name: str, **attributes: str | int) -> Iterator[None]:
        assert all(isinstance(value, str | int) for value in attributes.values())
        self.open.append(name)
        self.told.append((*self.open,))
        try:
            yield
        finally:
            self.open.pop()


@pytest.fixture
def worked_run(database: Database, verifier: MathVerifier, checkpoint: Path, tmp_path: Path) -> Spans:
    """The spans of a run of one iteration, from its first sample to its policy."""
    spans = Spans()
    with database.begin() as connection:
        add_problems(connection, 6)
        run = add_run(connection, make_recipe(sampling={"n": 4, "n_p": 2}), "r", checkpoint)
        rounds.add_iterations(connection, run, [0])
    worker = Worker(database, small_engines(verifier), tmp_path, 96)
    worker._context = replace(worker._context, span=spans)
    worker.conductor = Conductor(database, Settings(tmp_path, tmp_path), spans)
    worker.work()
    return spans


def worked(sampling: Sampling, **environment: str) -> tuple[list[dict[str, Any]], str]:
    """The spans that a worker process prints, and whether it has imported the SDK."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", PROGRAM, sampling.database.url, *map(str, sampling.job_ids[:2])]
    done = subprocess.run(
        command, env=inherited | environment, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    spans, text = [], done.stdout
    while text := text.lstrip():
        span, end = json.JSONDecoder().raw_decode(text)
        spans.append(span)
        text = text[end:]
    return spans, done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_each_attempt_of_a_worker_process_is_a_span(sampling: Sampling) -> None:
    pytest.importorskip(
        "opentelemetry.sdk", reason="opentelemetry is not installed; make trackers installs it"
    )
    spans, imported = worked(sampling, OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="site=here")
    assert imported == "True"
    jobs = [span for span in spans if span["name"] == "job sample"]
    failed, *others = sorted(jobs, key=lambda span: span["start_time"])
    described = {"hsstar.run": "run", "hsstar.round": "iteration", "hsstar.number": 0, "hsstar.samples": 16}
    attempt = {"hsstar.kind": "sample", "hsstar.attempt": 1}
    assert failed["attributes"] == {
        **described, **attempt, "hsstar.job": sampling.job_ids[0], "hsstar.worker": "dies",
        "hsstar.error": "no engine",
    }  # fmt: skip
    assert failed["status"] == {"status_code": "ERROR", "description": "no engine"}
    assert (
        failed["resource"]["attributes"] | {"service.name": "hsstar", "site": "here"}
        == (failed["resource"]["attributes"])
    )
    assert failed["resource"]["attributes"]["service.instance.id"] == "dies"
    assert [span["attributes"]["hsstar.worker"] for span in others] == ["works"] * len(others)
    second = {span["attributes"]["hsstar.job"]: span for span in others}[sampling.job_ids[1]]
    assert second["attributes"].items() >= (described | attempt | {"hsstar.problems": 4}).items()
    assert second["status"]["status_code"] == "UNSET"
    assert second["end_time"] > second["start_time"]
    parts = {of["context"]["span_id"]: [part for part in spans if below(part, of)] for of in jobs}
    drawn = parts[second["context"]["span_id"]]
    assert {part["name"] for part in drawn} == {"load", "render prompts", "draw", "finish"}
    (draw,) = [part for part in drawn if part["name"] == "draw"]
    assert draw["attributes"] == {"hsstar.samples": 16}
    writes = [part for part in spans if below(part, draw)]
    assert sum(part["attributes"]["hsstar.samples"] for part in writes) == 16
    broken = [
        part for part in parts[failed["context"]["span_id"]] if part["status"]["status_code"] == "ERROR"
    ]
    assert [part["name"] for part in broken] == ["draw"]
    assert {span["name"] for span in spans if span["parent_id"] is None} == {"job sample", "after job sample"}


def below(part: dict[str, Any], of: dict[str, Any]) -> bool:
    """Whether a span was opened directly below another one."""
    return bool(part["parent_id"] == of["context"]["span_id"])


def test_every_kind_of_job_and_the_conductor_tell_their_parts(worked_run: Spans) -> None:
    told = worked_run.told
    assert {name for path in told for name in path[:1]} <= {
        "load", "render prompts", "draw", "finish", "read answers", "write known verdicts",
        "compare answers", "vote", "load reward models", "split into steps", "score", "write", "train",
        "save", "label", "record states", "decide the wave", "allot", "pair", "measure quality",
    }  # fmt: skip
    assert told.count(("pair",)) == told.count(("measure quality",)) == told.count(("train",)) == 1
    assert {("draw", "write"), ("compare answers",), ("score",), ("vote",), ("label",)} <= set(told)
    assert worked_run.open == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}],
)
def test_a_worker_that_is_not_asked_imports_nothing(sampling: Sampling, environment: dict[str, str]) -> None:
    assert worked(sampling, **environment) == ([], "False")


@pytest.mark.slow
def test_a_collector_that_is_away_costs_no_job(sampling: Sampling) -> None:
    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http", reason="its exporter is not installed; see make trackers"
    )
    worked(sampling, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert sampling.states(sampling.job_ids[1]) == ["done"]


def test_an_unknown_exporter_is_refused_with_those_that_are_known(database: Database) -> None:
    pytest.importorskip(
        "opentelemetry.sdk", reason="opentelemetry is not installed; make trackers installs it"
    )
    with pytest.raises(BadInputError, match=r"OTEL_TRACES_EXPORTER='nowhere' .* one of console, "):
        make_tracing(database, "w", {"OTEL_TRACES_EXPORTER": "nowhere"})


def test_traces_without_their_packages_name_the_extra(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hsstar\[traces\]'"):
        make_tracing(database, "w", {"OTEL_TRACES_EXPORTER": "console"})
