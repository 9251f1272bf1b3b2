"""Traces of jobs and their parts, where OpenTelemetry's variables ask for them and its packages are there.

`OTEL_TRACES_EXPORTER`, or an endpoint such as `OTEL_EXPORTER_OTLP_ENDPOINT`, turns them on; the other OTEL
variables hold as OpenTelemetry says. Without them its SDK is not imported.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from hsstar import __version__
from hsstar.domain.errors import BadInputError, DatabaseError, MissingDependencyError
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import Job

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("hsstar.worker")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTERS = "opentelemetry_traces_exporter"
_OTLP = "otlp_proto_http"

SetAttribute = Callable[[str, Any], None]


class Tracing:
    """Spans of jobs and their parts, exported in the background; a collector that is away costs only them."""

    def __init__(self, provider: "TracerProvider | None", database: Database) -> None:
        self._provider = provider
        self._database = database
        self._tracer = None if provider is None else provider.get_tracer("hsstar", __version__)

    def span(self, job: Job) -> AbstractContextManager[SetAttribute]:
        """Return a span of an attempt at a job; what it yields sets attributes of it."""
        return nullcontext(_drop) if self._tracer is None else self._span(job)

    @contextmanager
    def _span(self, job: Job) -> Iterator[SetAttribute]:
        from opentelemetry.trace import Status, StatusCode

        assert self._tracer is not None  # noqa: S101  # `span` asks
        with self._tracer.start_as_current_span(
            f"job {job.kind}", attributes=self._attributes(job), record_exception=False
        ) as span:

            def set_attribute(name: str, value: Any) -> None:
                span.set_attribute(f"hsstar.{name}", value)
                if name == "error":
                    span.set_status(Status(StatusCode.ERROR, value))

            yield set_attribute

    def _attributes(self, job: Job) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            "hsstar.job": job.id, "hsstar.kind": job.kind.value, "hsstar.attempt": job.attempts,
            "hsstar.worker": job.worker,
        }  # fmt: skip
        described: dict[str, str | int] = {}
        with suppress(DatabaseError):  # the job itself says so
            described = self._database.run(lambda connection: jobs.describe(connection, job.id), single=True)
        return attributes | {f"hsstar.{name}": value for name, value in described.items()}

    def part(self, name: str, **attributes: str | int) -> AbstractContextManager[None]:
        """Return a span of a part, below the span that is open in this thread."""
        return nullcontext() if self._tracer is None else self._part(name, attributes)

    @contextmanager
    def _part(self, name: str, attributes: Mapping[str, str | int]) -> Iterator[None]:
        assert self._tracer is not None  # noqa: S101  # `part` asks
        named = {f"hsstar.{key}": value for key, value in attributes.items()}
        with self._tracer.start_as_current_span(name, attributes=named, record_exception=False):
            yield

    def close(self) -> None:
        """Export what is not exported yet."""
        if self._provider is not None:
            self._provider.shutdown()


def make_tracing(database: Database, name: str, environ: Mapping[str, str] = os.environ) -> Tracing:
    """Return the tracing that the variables ask for.

    Raise MissingDependencyError if they ask and the packages are not installed, BadInputError if they name
    an exporter that is unknown.
    """
    if not _is_asked_for(environ):
        return Tracing(None, database)
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"OTEL_* variables ask for traces, which need {error.name}: pip install 'hsstar[traces]'"
        ) from None
    described = Resource.create({"service.instance.id": name})
    if str(described.attributes["service.name"]).startswith("unknown_service"):
        described = described.merge(Resource({"service.name": "hsstar"}))
    provider = TracerProvider(resource=described)
    for exporter in (environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp").split(","):
        provider.add_span_processor(BatchSpanProcessor(_exporter(exporter.strip())()))
    return Tracing(provider, database)


def _is_asked_for(environ: Mapping[str, str]) -> bool:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    return exporter != "none" if exporter else any(environ.get(name) for name in _ENDPOINTS)


def _exporter(name: str) -> Callable[[], Any]:
    """Return the class of an exporter, as OpenTelemetry registers it."""
    known = {entry.name: entry for entry in entry_points(group=_EXPORTERS)}
    entry = known.get(_OTLP if name == "otlp" else name)
    if entry is None:
        names = sorted(known.keys() - {_OTLP} | ({"otlp"} if _OTLP in known else set()))
        raise BadInputError(
            f"OTEL_TRACES_EXPORTER={name!r} is not legal: it must be one of {', '.join(names)}"
        )
    exporter: Callable[[], Any] = entry.load()
    return exporter


def _drop(name: str, value: Any) -> None:
    pass
