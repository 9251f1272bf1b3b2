"""A worker exports a span per attempt where OTEL variables ask for it, and else imports nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.store.database import Database
from hsstar.workers.tracing import make_tracing
from tests.store.drawing import Sampling

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


def test_each_attempt_of_a_worker_process_is_a_span(sampling: Sampling) -> None:
    pytest.importorskip(
        "opentelemetry.sdk", reason="opentelemetry is not installed; make trackers installs it"
    )
    spans, imported = worked(sampling, OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="site=here")
    assert imported == "True"
    assert {span["name"] for span in spans} == {"job sample"}
    failed, *others = sorted(spans, key=lambda span: span["start_time"])
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


@pytest.mark.parametrize(
    "environment",
    [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}],
)
def test_a_worker_that_is_not_asked_imports_nothing(sampling: Sampling, environment: dict[str, str]) -> None:
    assert worked(sampling, **environment) == ([], "False")


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
