"""The real thing in a temporary home: the CLI as a process, embedded servers, worker processes."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg.rows import dict_row

from hsstar.demo import RECIPE, family
from tests.checkout import this_checkout
from tests.waiting import wait_for

__all__ = ["this_checkout"]

SECONDS = 240
Rows = list[dict[str, Any]]


@dataclass
class Home:
    """A home of its own for `hsstar`, with everything that lives in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _urls: dict[str, str] = field(default_factory=dict)  # of the database, by HSSTAR_HOME

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Runs `hsstar` with these arguments and waits for its end."""
        return subprocess.run(
            [sys.executable, "-m", "hsstar.cli", *arguments],
            env=os.environ | self.environment | extra,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `hsstar` and does not wait."""
        return subprocess.Popen(
            [sys.executable, "-m", "hsstar.cli", *arguments],
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background jobs ignore Ctrl-C, and their children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ok(self, *arguments: str, **extra: str) -> str:
        """Runs `hsstar`, which has to succeed; its standard output."""
        done = self.run(*arguments, **extra)
        assert done.returncode == 0, f"hsstar {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str, **extra: str) -> str:
        """Runs `hsstar`, which has to refuse in one line; that line."""
        done = self.run(*arguments, **extra)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        lines = done.stderr.strip().splitlines()
        message = lines[-1]
        assert message.startswith(("hsstar: ", "Error: ")), done.stderr
        assert len([line for line in lines if line.startswith("hsstar: ")]) <= 1, done.stderr
        return message

    def query(self, statement: str) -> Rows:
        """The rows of a query."""
        home = self.environment["HSSTAR_HOME"]
        if home not in self._urls:
            self._urls[home] = self.ok("db", "url").strip()
        with psycopg.connect(self._urls[home], row_factory=dict_row) as connection:
            return connection.execute(statement.encode()).fetchall()

    def wait_for(self, statement: str, reached: Callable[[Rows], object] = bool) -> Rows:
        """Waits until the rows of a query satisfy a condition: by default, that there are any."""

        def rows() -> list[Rows]:
            rows = self.query(statement)
            return [rows] if reached(rows) else []

        return wait_for(rows, SECONDS, lambda: f"{statement}: {self.query(statement)}\n{self.logs()}")[0]

    def wait_until_done(self, run: str) -> None:
        """Waits until every iteration of a run is done."""
        self.wait_for(
            f"select state from iteration_statistics where run = '{run}'",
            lambda rows: bool(rows) and all(row["state"] == "done" for row in rows),
        )

    def import_demo_problems(self, train: int = 400, held_out: int = 40) -> None:
        """Imports arithmetic problems as `demo-train` and `demo-heldout`."""
        for dataset, count, is_held_out in (("demo-train", train, False), ("demo-heldout", held_out, True)):
            file = self.folder / f"{dataset}.jsonl"
            family.write_problems(file, family.distinct_problems(count, 0, held_out=is_held_out))
            self.ok("problems", "import", str(file), "--dataset", dataset)

    def write_recipe(self, name: str, problems: int = 24, held_out: int = 40, **changes: str) -> Path:
        """The demo's recipe under another name and size; `changes` are further KEY = VALUE lines."""
        text = RECIPE.read_text()
        for key, value in ({"name": f'"{name}"', "per_iteration": str(problems), "problems": str(held_out)}
                           | changes).items():  # fmt: skip
            old = next(line for line in text.splitlines() if line.startswith(f"{key} ="))
            text = text.replace(old, f"{key} = {value}", 1)
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path

    def iterate(self, name: str, recipe: Path, *options: str) -> str:
        """Creates a run and enqueues its first iteration; what that says."""
        self.ok("runs", "create", "--recipe", str(recipe))
        return self.ok("iterate", name, *options)

    def logs(self) -> str:
        """The end of every log, for a failure's message."""
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in sorted((self.folder / "home" / "logs").glob("*.log"))
        )


def processes_below(folder: Path) -> list[psutil.Process]:
    """The processes whose environment or command names a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            named = process.environ().get("HSSTAR_HOME", "") + " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if str(folder) in named and process.pid != os.getpid():
            found.append(process)
    return found


@contextmanager
def temporary_home() -> Iterator[Home]:
    """A fresh home; whatever a test leaves running in it is stopped, and nothing may remain."""
    folder = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
    folder.chmod(0o755)  # the embedded servers run under an account of their own when we are root
    made = Home(
        folder,
        {
            "HSSTAR_HOME": str(folder / "home"),
            "HSSTAR_SERVER_DIR": str(folder / "servers"),
            "HSSTAR_LEASE_SECONDS": "6",
            "HSSTAR_JOB_SAMPLES": "48",
            "COLUMNS": "200",
            "SPT_NOENV": "1",  # where Celery can set process titles, they would overwrite the environment
        },
    )
    try:
        yield made
    finally:
        made.run("down")
        left = processes_below(folder)
        for process in left:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"still running after `hsstar down`: {left}"


@pytest.fixture
def home() -> Iterator[Home]:
    """A home where nothing is up."""
    with temporary_home() as made:
        yield made


@pytest.fixture(scope="session")
def stack() -> Iterator[Home]:
    """A home whose stack is up, with the demo's problems imported."""
    with temporary_home() as made:
        made.ok("up")
        made.import_demo_problems()
        yield made


@pytest.fixture(scope="session")
def finished(stack: Home) -> Home:
    """A stack with the run `loop`: two iterations of 24 problems, watched to their end."""
    watched = stack.iterate("loop", stack.write_recipe("loop"), "--iterations", "2", "--watch")
    assert "iteration 1  done" in watched, watched
    return stack
