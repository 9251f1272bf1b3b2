"""A real Prometheus reads `hsstar metrics`; the alerts and dashboards of deploy/grafana find their series."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from hsstar.store import runs
from tests.brokers.servers import free_port
from tests.cli.conftest import BROKEN, CommandLine, enqueue
from tests.cli.test_metrics import serving
from tests.deploy.manifests import DEPLOY, passes, tool
from tests.store.factory import add_worker, change_jobs, claim, execute
from tests.waiting import wait_for

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = [GRAFANA / "overview.json", GRAFANA / "runs.json"]
VARIABLES = {"$__rate_interval": "30s", "$run": ".*"}
FIRING = {
    "HsstarJobsFailed",
    "HsstarRunHeld",
    "HsstarNoProgress",
    "HsstarWorkersLost",
    "HsstarQueueNotServed",
}
"""The alerts whose cause stands in the rows of `troubled`."""


def test_the_shipped_files_pass_the_checks_of_promtool() -> None:
    passes(tool("promtool"), "check", "config", GRAFANA / "prometheus.yml")
    passes(tool("promtool"), "check", "rules", GRAFANA / "alerts.yml")
    passes(tool("promtool"), "test", "rules", GRAFANA / "alerts_test.yml")


def test_every_alert_is_tested_both_ways() -> None:
    fires, quiet = (
        {case["alertname"]: bool(case["exp_alerts"]) for case in group["alert_rule_test"]}
        for group in yaml.safe_load((GRAFANA / "alerts_test.yml").read_text())["tests"]
    )
    assert fires == dict.fromkeys(rules(), True)
    assert quiet == dict.fromkeys(rules(), False)


def test_the_names_of_the_metrics_are_those_that_prometheus_wants(troubled: CommandLine) -> None:
    text = troubled.ok("metrics")
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def troubled(cli: CommandLine) -> CommandLine:
    """A run that has ended, one whose jobs fail, hang and wait, and one that is held."""
    enqueue(cli, evaluation={"dataset": "train", "problems": 3, "samples": 2})
    cli.worker().work()
    enqueue(cli, "second")
    worker = cli.worker(job_samples=4)
    worker.conductor.sweep()
    done, running, failed = worker.queued()
    worker.do(done)
    worker.fail(failed, BROKEN)
    with cli.database.begin() as connection:
        for name in ("busy@box", "lost@box"):
            add_worker(connection, name)
        claim(connection, running, "busy@box")
        change_jobs(connection, "moved_at = now() - interval '1 hour'", running)
        change_jobs(connection, "available_at = now() - interval '1 hour'", *worker.queued())
        change = "UPDATE workers SET last_heartbeat = now() + make_interval(hours => :hours)"
        execute(connection, f"{change} WHERE name = 'lost@box'", hours=-1)
        execute(connection, f"{change} WHERE name = 'busy@box'", hours=1)
        execute(connection, "UPDATE training_steps SET tokens_per_second = 1000")
    enqueue(cli, "held")
    with cli.database.begin() as connection:
        runs.hold(connection, runs.find_run(connection, "held").id, "gate", "too few")
    return cli


def rules() -> dict[str, str]:
    """The expression of every alert by its name."""
    (group,) = yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def expressions(dashboard: Path) -> dict[str, str]:
    """The expressions of a dashboard by panel and letter, with Grafana's variables filled in."""
    found = {}
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            found[f"{panel['title']}/{target['refId']}"] = text
    return found


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx2.Client]:
    """A client of a Prometheus with the shipped configuration, which scrapes `target` every five seconds."""
    config = (GRAFANA / "prometheus.yml").read_text()
    for old, new in (("localhost:9464", target), ("30s", "5s"), ("20s", "5s")):
        assert old in config
        config = config.replace(old, new)
    (folder / "prometheus.yml").write_text(config)
    alerts = re.sub(r"^( +)for: .*\n", "", (GRAFANA / "alerts.yml").read_text(), flags=re.M)
    (folder / "alerts.yml").write_text(alerts)
    port = free_port()
    arguments = ("--storage.tsdb.path=data", "--config.file=prometheus.yml", "--log.level=warn")
    command = [tool("prometheus"), *arguments, f"--web.listen-address=127.0.0.1:{port}"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
    ):
        try:
            wait_for(lambda: is_ready(client), what=lambda: (folder / "log").read_text())
            yield client
        finally:
            process.terminate()


def is_ready(client: httpx2.Client) -> bool:
    try:
        return bool(client.get("/-/ready").status_code == 200)
    except httpx2.TransportError:
        return False


def answer(client: httpx2.Client, expression: str) -> list[Any]:
    """What Prometheus finds for an expression, which it has to understand."""
    answered = client.get("/api/v1/query", params={"query": expression}).json()
    assert answered["status"] == "success", f"{expression}: {answered}"
    rows: list[Any] = answered["data"]["result"]
    return rows


@pytest.mark.heavy
def test_every_panel_has_data_and_the_alerts_fire(troubled: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "prometheus"
    place.mkdir()
    with serving() as url, prometheus(place, url.removeprefix("http://").removesuffix("/metrics")) as client:
        twice = "min(count_over_time(hsstar_up[1m])) > 2"
        wait_for(lambda: answer(client, twice), what=lambda: (place / "log").read_text())
        for dashboard in DASHBOARDS:
            wanted = expressions(dashboard)
            assert len(wanted) > 10
            empty = partial(empty_of, client, wanted)
            wait_for(lambda: not empty(), what=lambda: f"data for {empty()} of {dashboard.name}")  # noqa: B023
        wait_for(lambda: firing(client) >= FIRING, what=lambda: f"of {FIRING} fire {firing(client)}")
        assert firing(client) == FIRING
        (group,) = client.get("/api/v1/rules").json()["data"]["groups"]
        assert {rule["name"]: rule["health"] for rule in group["rules"]} == dict.fromkeys(rules(), "ok")


def empty_of(client: httpx2.Client, wanted: dict[str, str]) -> set[str]:
    """The names of the expressions for which Prometheus has nothing; a scrape on a busy machine may fail."""
    return {name for name, expression in wanted.items() if not answer(client, expression)}


def firing(client: httpx2.Client) -> set[str]:
    alerts = client.get("/api/v1/alerts").json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
