"""With both URLs set, the same commands use those servers, and nothing is embedded."""

import os
import signal
import subprocess
import sys

import psutil

from hsstar.local.stack import Stack
from hsstar.settings import Settings
from tests.acceptance.conftest import SECONDS, Home, processes_below


def _urls(stack: Home) -> dict[str, str]:
    """The servers of a stack, as somebody else's servers."""
    servers = Stack(Settings.from_environment(stack.environment))
    return {"HSSTAR_DATABASE_URL": servers.database_url, "HSSTAR_BROKER_URL": servers.broker_url}


def test_up_starts_workers_only(stack: Home, home: Home) -> None:
    urls = _urls(stack)
    said = home.ok("up", "--workers", "sample=0,score=0,verify=1,train=0", **urls)
    try:
        assert "postgres " not in said
        assert "workers   verify-1" in said
        assert "demo-train" in home.ok("problems", "list", **urls)
        commands = [" ".join(process.cmdline()) for process in processes_below(home.folder)]
        assert not any("postgres" in command or "valkey" in command for command in commands)
    finally:
        home.ok("down", **urls)
    assert "demo-train" in stack.ok("problems", "list")


def test_a_worker_in_the_foreground_serves_its_role_and_signs_off(stack: Home, home: Home) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "hsstar.cli", "worker", "--role", "verify", "--name", "by-hand"],
        env=os.environ | home.environment | _urls(stack),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        listed = "select * from worker_activity where worker = 'by-hand'"
        rows = stack.wait_for(listed, lambda rows: bool(rows) and rows[0]["state"] == "idle")
        assert rows[0]["role"] == "verify"
        assert "'by-hand' is at work" in _refused_double(home, stack)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=SECONDS)
    assert stack.query(listed)[0]["state"] == "stopped"
    assert not [child for child in psutil.Process().children() if child.pid == worker.pid]


def _refused_double(home: Home, stack: Home) -> str:
    done = home.run("worker", "--role", "verify", "--name", "by-hand", **_urls(stack))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr
