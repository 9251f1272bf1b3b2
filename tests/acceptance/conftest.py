"""The real thing in a temporary home: the CLI as a process, embedded servers, worker processes."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from hsstar.demo import RECIPE, family
from tests.checkout import this_checkout
from tests.waiting import hear_signals, wait_for

__all__ = ["this_checkout"]

SECONDS = 240
COMMAND = [sys.executable, "-m", "hsstar.cli"]
NO_WORKERS = ("--workers", "sample=0,score=0,verify=0,train=0")
Rows = list[dict[str, Any]]


@dataclass
class Home:
    """A home of its own for `hsstar`, with everything that lives in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `hsstar` with these arguments and waits for its end."""
        return subprocess.run(
            [*COMMAND, *arguments], env=os.environ | self.environment, cwd=self.folder, capture_output=True,
            text=True, timeout=SECONDS,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `hsstar` and does not wait."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=os.environ | self.environment,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_signals,
        )

    def ok(self, *arguments: str) -> str:
        """Runs `hsstar`, which has to succeed; its standard output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"hsstar {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    @cached_property
    def _url(self) -> str:
        return self.ok("db", "url").strip()

    def query(self, statement: str) -> Rows:
        """The rows of a query."""
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
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

    def import_demo_problems(self, train: int, held_out: int = 40) -> None:
        """Imports arithmetic problems as `demo-train` and `demo-heldout`."""
        for dataset, count, is_held_out in (("demo-train", train, False), ("demo-heldout", held_out, True)):
            file = self.folder / f"{dataset}.jsonl"
            family.write_problems(file, family.distinct_problems(count, 0, held_out=is_held_out))
            self.ok("problems", "import", str(file), "--dataset", dataset)

    def write_recipe(self, name: str, problems: int = 24, held_out: int = 40, **changes: str) -> Path:
        """The demo's recipe under another name and size; `changes` are further KEY = VALUE lines."""
        text = RECIPE.read_text()
        sizes = {"name": f'"{name}"', "per_iteration": str(problems), "problems": str(held_out)}
        for key, value in (sizes | changes).items():
            old = next(line for line in text.splitlines() if line.startswith(f"{key} ="))
            text = text.replace(old, f"{key} = {value}", 1)
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path

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
