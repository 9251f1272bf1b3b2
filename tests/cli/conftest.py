"""`hsstar` called in the test's own process, against a real database and a worker without broker."""

import csv
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from sqlalchemy import text

from hsstar.cli.main import main
from hsstar.demo import RECIPE
from hsstar.domain.lifecycle import JobKind
from hsstar.store import rounds
from hsstar.store.database import Database
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier
from tests.checkout import this_checkout
from tests.deterministic import DeterministicSampler, Script
from tests.store.conftest import MakeDatabase, database, make_database, server_url, template
from tests.store.driver import Worker, checkpoint, small_engines, verifier
from tests.store.factory import add_problems, add_run, make_recipe

__all__ = ["checkpoint", "database", "make_database", "server_url", "template", "this_checkout", "verifier"]

Capture = pytest.CaptureFixture[str]
BROKEN = "it broke [now]"
WATCH = "hsstar.cli.views.progress"
ENDLESS = r"\sum_{n=1}^{10^9} n^n"
"""An answer that no deadline is long enough for."""


class Called(NamedTuple):
    code: int
    out: str
    err: str


class NamedInput(io.BytesIO):
    name = "<stdin>"


@dataclass
class CommandLine:
    """Calls `hsstar` as its entry point does; `checkpoint` is the folder of a model for small engines."""

    folder: Path
    checkpoint: Path
    _patch: pytest.MonkeyPatch
    _caught: Capture
    _verifier: MathVerifier
    sampler: type[DeterministicSampler] = DeterministicSampler
    _database: Database | None = None

    @property
    def database(self) -> Database:
        assert self._database is not None
        return self._database

    def use(self, database: Database) -> None:
        """Has `hsstar` find this database, and a broker that nobody asks."""
        self._database = database
        self._patch.setenv("HSSTAR_DATABASE_URL", database.engine.url.render_as_string(hide_password=False))
        self._patch.setenv("HSSTAR_BROKER_URL", "redis://127.0.0.1:9/0")

    def worker(self, script: Script | None = None, job_samples: int = 96) -> Worker:
        """A worker on this database, which runs the real stages."""
        engines = small_engines(self._verifier, script, self.sampler)
        return Worker(self.database, engines, self.folder / "models", job_samples)

    def __call__(self, *arguments: str, given: bytes | None = None, terminal: bool = False) -> Called:
        """Calls `hsstar`, whatever comes of it; `given` is its standard input."""
        self._patch.setattr(sys, "argv", ["hsstar", *arguments])
        self._patch.setattr(sys.stderr, "isatty", lambda: terminal)
        if given is not None:
            self._patch.setattr(sys, "stdin", SimpleNamespace(buffer=NamedInput(given)))
        self._caught.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Called(int(end.value.code or 0), *self._caught.readouterr())

    def said(self) -> str:
        """What was printed since the last call."""
        return self._caught.readouterr().out

    def ok(self, *arguments: str) -> str:
        """Calls `hsstar`, which has to succeed; its standard output."""
        called = self(*arguments)
        assert called.code == 0, called
        return called.out

    def json(self, *arguments: str) -> Any:
        """The JSON document of a successful call."""
        return json.loads(self.ok(*arguments, "--json"))

    def csv(self, *arguments: str) -> list[dict[str, str]]:
        """The rows of a successful call's CSV."""
        return list(csv.DictReader(io.StringIO(self.ok(*arguments, "--format", "csv"))))

    def refused(self, *arguments: str) -> str:
        """Calls `hsstar`, which has to refuse in one line; that line."""
        called = self(*arguments)
        assert called.code == 1, called
        start, line = called.err.splitlines()[-1].split(": ", 1)
        assert start == "hsstar"
        return line

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, by another way than `hsstar sql`."""
        with self.database.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def file(self, name: str, *rows: Any) -> str:
        """The path of a JSONL file with these rows."""
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def recipe(self, *changes: tuple[str, str]) -> str:
        """The path of the demo's recipe with lines replaced, on datasets that are in the database."""
        text = RECIPE.read_text()
        for old, new in (("per_iteration = 250", "per_iteration = 4"), ("problems = 400", "problems = 3")):
            text = text.replace(old, new)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (self.folder / "recipe.toml").write_text(text)
        return str(self.folder / "recipe.toml")


@pytest.fixture
def alone(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, verifier: MathVerifier
) -> CommandLine:
    """The command line in a folder and with a home of its own, where nothing is up."""
    for variable in [name for name in os.environ if name.startswith(("HSSTAR_", "FORCE_COLOR"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(f"{WATCH}._REFRESH_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path, checkpoint, monkeypatch, capsys, verifier)


@pytest.fixture
def cli(alone: CommandLine, database: Database) -> CommandLine:
    """The command line on a migrated database of the test's own."""
    alone.use(database)
    return alone


@pytest.fixture(scope="module")
def shared(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """One database for the tests of a module that only read; the first of them fills it."""
    with make_database(template) as database:
        yield database


def enqueue(cli: CommandLine, name: str = "r", **sections: Any) -> Run:
    """A run of four samples a problem, two of them pre-samples, with one iteration over six problems."""
    sampling, problems = {"n": 4, "n_p": 2}, {"dataset": "train", "per_iteration": 6}
    recipe = make_recipe(**{"sampling": sampling, "problems": problems} | sections)
    with cli.database.begin() as connection:
        add_problems(connection, 12)
        run = add_run(connection, recipe, name, cli.checkpoint)
        rounds.add_iterations(connection, run, [0])
    return run


def hold_up(cli: CommandLine, kind: JobKind = JobKind.VERIFY) -> list[int]:
    """Every job of a kind that is queued fails, and everything else is done; the failed jobs."""
    worker = cli.worker(job_samples=6)
    worker.work(set(JobKind) - {kind})
    failed = worker.queued({kind})
    for job_id in failed:
        worker.fail(job_id, BROKEN)
    return failed


@contextmanager
def working(cli: CommandLine, script: Script | None = None) -> Iterator[None]:
    """A worker is at work beside the block."""
    ends = threading.Event()

    def work() -> None:
        worker = cli.worker(script)
        while not ends.wait(0.05):
            worker.work()

    with ThreadPoolExecutor(1) as pool:
        at_work = pool.submit(work)
        try:
            yield
        finally:
            ends.set()
            at_work.result()


def let_time_pass(patch: pytest.MonkeyPatch, module: str, *actions: Callable[[], object]) -> None:
    """Has something happen in place of each pause that a module makes."""
    left = iter(actions)
    clock = SimpleNamespace(sleep=lambda seconds: next(left)(), monotonic=time.monotonic)
    patch.setattr(f"{module}.time", clock)


def interrupt() -> None:
    raise KeyboardInterrupt
