"""The figures of `insights.metrics` in the form that Prometheus reads.

A label never has a value of a problem, sample, job or worker, so the number of series grows with the runs
that are shown and their policies alone.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hsstar import __version__
from hsstar.domain.errors import HsstarError
from hsstar.domain.lifecycle import IterationState
from hsstar.insights.metrics import Metrics, load_metrics
from hsstar.store.database import Database

log = logging.getLogger("hsstar.metrics")

Opening = Callable[[], AbstractContextManager[Database]]
Sample = tuple[tuple[str, ...], float]

_SAMPLE_COUNTERS = {
    "drawn": "hsstar_samples",
    "verified": "hsstar_samples_verified",
    "scored": "hsstar_samples_scored",
    "correct": "hsstar_samples_correct",
    "cut": "hsstar_samples_cut",
    "tokens": "hsstar_sample_tokens",
}
_SAMPLE_HELP = {
    "drawn": "Samples that were drawn.",
    "verified": "Samples with a verdict cause.",
    "scored": "Samples with step rewards.",
    "correct": "Samples whose verdict is correct; judging again may lower it.",
    "cut": "Samples that ended at a length limit.",
    "tokens": "Tokens of the samples that were drawn.",
}


class RunsCollector(Collector):
    """Reads the rows at every scrape, one scrape at a time; without a database it says `hsstar_up 0`."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._reading = threading.Lock()

    def describe(self) -> list[Metric]:
        """Return nothing: registering a collector reads no rows."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one scrape."""
        yield _gauge("hsstar_info", "The version that answers.", ("version",), [((__version__,), 1)])
        metrics = self._load()
        yield _gauge("hsstar_up", "Whether the database answered.", (), [((), int(metrics is not None))])
        if metrics is not None:
            yield from _families(metrics)

    def _load(self) -> Metrics | None:
        with self._reading:
            try:
                with self._opening() as database:
                    return load_metrics(database)
            except HsstarError as error:
                log.warning("a scrape found no rows: %s", error)
                return None


def registry(opening: Opening) -> CollectorRegistry:
    """Return a registry that reads the rows at every scrape."""
    holder = CollectorRegistry()
    holder.register(RunsCollector(opening))
    return holder


def exposition(opening: Opening) -> bytes:
    """Return what one scrape gets, in Prometheus' text format (`prometheus_client.CONTENT_TYPE_LATEST`)."""
    return generate_latest(registry(opening))


def start_server(opening: Opening, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Answer scrapes at an address in a thread; port 0 is any free one. Raise OSError if it is taken."""
    return start_http_server(port, host, registry(opening))


def _families(metrics: Metrics) -> Iterator[Metric]:
    yield from _runs(metrics)
    yield from _jobs(metrics)
    yield from _samples(metrics)
    yield from _trainings(metrics)
    yield _gauge(
        "hsstar_workers", "Workers that have not stopped.", ("role", "state"),
        [((row.role, row.state), row.workers) for row in metrics.workers],
    )  # fmt: skip


def _runs(metrics: Metrics) -> Iterator[Metric]:
    yield _gauge("hsstar_runs_left_out", "Runs too old to be shown.", (), [((), metrics.runs_left_out)])
    yield _gauge(
        "hsstar_run_held", "1 for a run of which no work is planned, with the reason.", ("run", "reason"),
        [((run.run, run.held), 1) for run in metrics.runs if run.held is not None],
    )  # fmt: skip
    states = [(run, state.value) for run in metrics.runs for state in IterationState]
    yield _gauge(
        "hsstar_iterations", "Iterations by state.", ("run", "state"),
        [((run.run, state), getattr(run, state)) for run, state in states],
    )  # fmt: skip
    labels = ("run", "policy", "measure")
    yield _gauge(
        "hsstar_accuracy_ratio", "Accuracy of the policy M_t, from 0 to 1.", labels,
        [((row.run, f"M{row.policy}", row.measure), row.accuracy) for row in metrics.accuracies],
    )  # fmt: skip
    errors = [
        ((row.run, f"M{row.policy}", row.measure), row.standard_error)
        for row in metrics.accuracies
        if row.standard_error is not None
    ]
    yield _gauge("hsstar_accuracy_standard_error_ratio", "Standard error of the accuracy.", labels, errors)


def _jobs(metrics: Metrics) -> Iterator[Metric]:
    yield _gauge(
        "hsstar_jobs", "Jobs by kind and state.", ("run", "kind", "state"),
        [((row.run, row.kind, row.state), row.jobs) for row in metrics.jobs],
    )  # fmt: skip
    for name, help_text, column in (
        ("hsstar_job_attempts", "Attempts at jobs, the first ones included.", "attempts"),
        ("hsstar_job_leases_lapsed", "Leases that were taken back after their end.", "lapses"),
    ):
        sums: dict[tuple[str, ...], float] = {}
        for row in metrics.jobs:
            sums[row.run, row.kind] = sums.get((row.run, row.kind), 0) + getattr(row, column)
        yield _counter(name, help_text, ("run", "kind"), list(sums.items()))
    yield _gauge(
        "hsstar_queue_oldest_seconds", "For how long the oldest queued job could have begun.", ("kind",),
        [((row.kind,), row.oldest_seconds) for row in metrics.queues],
    )  # fmt: skip
    yield _gauge(
        "hsstar_job_still_seconds", "For how long a running job has got no further, at most.", ("kind",),
        [((row.kind,), row.still_seconds) for row in metrics.queues],
    )  # fmt: skip


def _samples(metrics: Metrics) -> Iterator[Metric]:
    for column, name in _SAMPLE_COUNTERS.items():
        rows = [((row.run, row.round), getattr(row, column)) for row in metrics.samples]
        yield _counter(name, _SAMPLE_HELP[column], ("run", "round"), rows)
    yield _gauge(
        "hsstar_verdict_causes", "Samples of the newest iteration by verdict cause.", ("run", "cause"),
        [((row.run, row.cause), row.samples) for row in metrics.causes],
    )  # fmt: skip
    yield _gauge(
        "hsstar_problems", "Labelled problems of the newest iteration by difficulty level.", ("run", "level"),
        [((row.run, row.level), row.problems) for row in metrics.levels],
    )  # fmt: skip


def _trainings(metrics: Metrics) -> Iterator[Metric]:
    rows = metrics.trainings
    for column, name, help_text in (
        ("iteration", "hsstar_training_iteration", "Iteration of the newest training."),
        ("step", "hsstar_training_step", "Last optimiser step of the newest training."),
        ("steps", "hsstar_training_steps", "Optimiser steps of the newest training in all."),
        ("loss", "hsstar_training_loss", "Loss at its last step."),
        ("tokens_per_second", "hsstar_training_tokens_per_second", "Tokens in, of all processes."),
    ):
        values = [((row.run,), getattr(row, column)) for row in rows if getattr(row, column) is not None]
        yield _gauge(name, help_text, ("run",), values)


def _gauge(name: str, help_text: str, labels: tuple[str, ...], rows: Sequence[Sample]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, help_text: str, labels: tuple[str, ...], rows: Sequence[Sample]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
