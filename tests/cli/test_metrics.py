"""`hsstar metrics` counts what the rows say, in the form that Prometheus reads, and outlives its database."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hsstar.domain.errors import DatabaseError
from hsstar.insights.metrics import load_metrics
from hsstar.monitoring import prometheus
from hsstar.store import runs
from tests.cli.conftest import BROKEN, CommandLine, enqueue
from tests.store.factory import add_iteration, add_problems, add_run, add_worker, change_jobs, claim

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Series:
    """The value of every series, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(cli: CommandLine) -> Series:
    return parsed(cli.ok("metrics"))


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, tuple(sorted(labels.items()))))


def test_what_is_under_way_is_counted_by_state_kind_and_run(cli: CommandLine) -> None:
    enqueue(cli)
    worker = cli.worker(job_samples=4)
    worker.conductor.sweep()
    done, running, failed = worker.queued()
    worker.do(done)
    worker.fail(failed, BROKEN)
    with cli.database.begin() as connection:
        add_worker(connection, "sample-1@box")
        claim(connection, running, "sample-1@box")
        change_jobs(connection, "moved_at = now() - interval '400 s', lapses = 2", running)
        change_jobs(connection, "available_at = now() - interval '90 s'", *worker.queued())
    series = scraped(cli)
    jobs = {
        tuple(dict(labels).get(key) for key in ("run", "kind", "state")): number
        for (name, labels), number in series.items()
        if name == "hsstar_jobs"
    }
    rows = cli.rows("SELECT 'r', kind, state, count(*) FROM jobs GROUP BY kind, state")
    assert jobs == {tuple(row[:3]): row[3] for row in rows}
    assert {state for _, _, state in jobs} == {"done", "running", "failed", "queued"}
    assert value(series, "hsstar_up") == 1
    assert value(series, "hsstar_iterations", run="r", state="pre_sampling") == 1
    assert value(series, "hsstar_workers", role="sample", state="busy") == 1
    assert value(series, "hsstar_job_leases_lapsed_total", run="r", kind="sample") == 2
    still = value(series, "hsstar_job_still_seconds", kind="sample")
    assert still is not None
    assert 400 <= still < 500
    oldest = value(series, "hsstar_queue_oldest_seconds", kind="verify")
    assert oldest is not None
    assert 90 <= oldest < 200
    assert value(series, "hsstar_queue_oldest_seconds", kind="train") == 0


def test_a_run_that_has_ended_has_its_samples_causes_levels_and_accuracies(cli: CommandLine) -> None:
    enqueue(cli, evaluation={"dataset": "train", "problems": 3, "samples": 2})
    cli.worker().work()
    series = scraped(cli)
    assert value(series, "hsstar_iterations", run="r", state="done") == 1
    ((drawn, tokens),) = cli.rows(
        "SELECT count(*), sum(tokens) FROM samples JOIN rounds ON rounds.id = round_id "
        "WHERE kind = 'iteration'"
    )
    assert value(series, "hsstar_samples_total", run="r", round="iteration") == drawn
    assert value(series, "hsstar_sample_tokens_total", run="r", round="iteration") == tokens
    causes = cli.rows(
        "SELECT cause, count(*) FROM samples JOIN rounds ON rounds.id = round_id "
        "WHERE kind = 'iteration' GROUP BY cause"
    )
    assert causes
    for cause, count in causes:
        assert value(series, "hsstar_verdict_causes", run="r", cause=cause) == count
    for level, count in cli.rows("SELECT level, count(*) FROM difficulty_labels GROUP BY level"):
        assert value(series, "hsstar_problems", run="r", level=level) == count
    accuracies = cli.rows("SELECT number, accuracy FROM evaluations JOIN rounds ON rounds.id = round_id")
    assert len(accuracies) > 1
    for number, accuracy in accuracies:
        labels = {"run": "r", "policy": f"M{number}", "measure": "heldout"}
        assert value(series, "hsstar_accuracy_ratio", **labels) == accuracy
    ((step, loss),) = cli.rows("SELECT step, loss FROM training_steps ORDER BY step DESC LIMIT 1")
    assert value(series, "hsstar_training_step", run="r") == step
    assert value(series, "hsstar_training_loss", run="r") == loss


def test_archived_and_old_runs_have_no_series(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsstar.insights.metrics.MOST_RUNS", 2)
    with cli.database.begin() as connection:
        problem_ids = add_problems(connection, 2)
        for name in ("oldest", "older", "archived", "newest"):
            add_iteration(connection, add_run(connection, name=name), problem_ids)
        runs.hold(connection, runs.find_run(connection, "archived").id, "archived", "not needed")
        runs.hold(connection, runs.find_run(connection, "older").id, "gate", "too few")
    series = scraped(cli)
    named = {dict(labels)["run"] for _, labels in series if "run" in dict(labels)}
    assert named == {"older", "newest"}
    assert value(series, "hsstar_runs_left_out") == 1
    assert value(series, "hsstar_run_held", run="older", reason="gate") == 1


def test_a_scrape_can_only_read(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from hsstar.store.read import metrics

    def write(connection: Any) -> list[Any]:
        add_problems(connection, 1, "written")
        return []

    monkeypatch.setattr(metrics, "worker_counts", write)
    with pytest.raises(DatabaseError, match=r"read-only|permission denied"):
        load_metrics(cli.database)


def test_without_its_database_a_scrape_says_so(alone: CommandLine) -> None:
    series = scraped(alone)
    assert value(series, "hsstar_up") == 0
    assert {name for name, _ in series} == {"hsstar_up", "hsstar_info"}


@contextmanager
def serving() -> Iterator[str]:
    """The URL of `hsstar metrics --port 0` in a process of its own."""
    command = [sys.executable, "-m", "hsstar.cli", "metrics", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_the_server_answers_before_during_and_after_its_database(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(cli)
    with serving() as url:
        answered = httpx2.get(url, timeout=60, trust_env=False)
        assert answered.headers["content-type"].startswith("text/plain")
        assert value(parsed(answered.text), "hsstar_iterations", run="r", state="waiting") == 1
    monkeypatch.setenv("HSSTAR_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    with serving() as url:
        assert value(parsed(httpx2.get(url, timeout=60, trust_env=False).text), "hsstar_up") == 0


def test_a_taken_port_is_refused_in_one_line(cli: CommandLine) -> None:
    server, _ = prometheus.start_server(prometheus_nothing, "127.0.0.1", 0)
    try:
        assert "cannot listen on 127.0.0.1" in cli.refused("metrics", "--port", str(server.server_port))
    finally:
        server.shutdown()
        server.server_close()


def prometheus_nothing() -> Any:
    raise DatabaseError("there is none")
